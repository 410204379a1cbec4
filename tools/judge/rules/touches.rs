//! How often one port was touched, whatever it was: what PortSentry's SCAN_TRIGGER counted.

use super::rule::{Evaluation, Rule};
use crate::evidence::Totals;

/// Convicts at that many touches of one port.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Touches {
    touches: u32,
}

impl Touches {
    /// At `touches` touches, at least one.
    #[must_use]
    pub fn new(touches: u32) -> Self {
        Touches { touches: touches.max(1) }
    }
}

impl Rule for Touches {
    fn name(&self) -> &'static str {
        "touches"
    }

    fn evaluate(&self, evidence: &Totals) -> Evaluation {
        let score = f64::from(evidence.touches);
        let enough = score >= f64::from(self.touches) * evidence.threshold_factor;
        Evaluation { score, convicts: evidence.touches >= 1 && enough }
    }

    fn reason(&self) -> String {
        match self.touches {
            1 => "the first touch convicts".to_owned(),
            touches => format!("{touches} touches of one port convict"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_convicts_at_its_number_and_never_at_none() {
        let touched = |touches| Totals { touches, threshold_factor: 1.0, ..Totals::default() };
        assert!(!Touches::new(5).evaluate(&touched(4)).convicts);
        assert!(Touches::new(5).evaluate(&touched(5)).convicts);
        assert!(!Touches::new(0).evaluate(&touched(0)).convicts);
    }
}
