//! A plain count of different ports, for those who know PortSentry's SCAN_TRIGGER. Unlike there, a port that is
//! touched twice counts once, and a touch is forgotten after the window.

use super::rule::{Evaluation, Rule};
use crate::evidence::Totals;

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
    fn evaluate(&self, evidence: &Totals) -> Evaluation {
        let score = evidence.distinct as f64;
        let enough = score >= f64::from(self.ports) * evidence.threshold_factor;
        Evaluation { score, convicts: evidence.distinct >= 1 && enough }
    }

    fn reason(&self) -> String {
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
        let touched = |distinct| Totals { distinct, threshold_factor: 1.0, ..Totals::default() };
        assert!(Trigger::new(1).evaluate(&touched(1)).convicts);
        assert!(!Trigger::new(0).evaluate(&touched(0)).convicts);
        assert!(!Trigger::new(5).evaluate(&touched(4)).convicts);
        assert!(Trigger::new(5).evaluate(&touched(5)).convicts);
    }
}
