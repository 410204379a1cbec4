//! A plain count of different ports, for those who know PortSentry's SCAN_TRIGGER. Unlike there, a port that is
//! touched twice counts once, and a touch is forgotten after the window.

use super::{Rule, Weight};
use crate::evidence::View;

/// Convicts at that many different ports.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trigger {
    ports: u32,
}

impl Trigger {
    /// At `ports` different ports, at least one.
    #[must_use]
    pub fn new(ports: u32) -> Self {
        Trigger { ports: ports.max(1) }
    }
}

impl Rule for Trigger {
    fn name(&self) -> &'static str {
        "trigger"
    }

    #[allow(clippy::cast_precision_loss)] // a count of ports is far below 2^52
    fn weigh(&self, evidence: &View) -> Weight {
        let score = evidence.distinct as f64;
        let enough = score >= f64::from(self.ports) * evidence.threshold;
        Weight { score, convicts: evidence.distinct >= 1 && enough }
    }

    fn grounds(&self) -> String {
        match self.ports {
            1 => "the first touch convicts".to_owned(),
            ports => format!("{ports} different ports convict"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_convicts_at_its_number_and_never_at_none() {
        let touched = |distinct| View { distinct, threshold: 1.0, ..View::default() };
        assert!(Trigger::new(1).weigh(&touched(1)).convicts);
        assert!(!Trigger::new(0).weigh(&touched(0)).convicts);
        assert!(!Trigger::new(5).weigh(&touched(4)).convicts);
        assert!(Trigger::new(5).weigh(&touched(5)).convicts);
    }
}
