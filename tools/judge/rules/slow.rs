//! The slow scan: a port a day stays below every window of minutes. So different ports are remembered for long, and
//! many of them convict however far they lie apart. Only decoys and impossible flags count here: in a month everybody
//! sends late packets, and behind one address many people knock at ports that are closed.

use std::time::Duration;

use super::rule::{Evaluation, Rule};
use crate::evidence::Totals;

/// Convicts at that many different ports within a long time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlowScan {
    window: Duration,
    ports: u32,
}

impl SlowScan {
    /// At `ports` different ports within `window`, at least two: it only says how long that is, because
    /// [`Totals::slow`] is counted by whoever adds up.
    #[must_use]
    pub fn new(window: Duration, ports: u32) -> Self {
        SlowScan { window, ports: ports.max(2) }
    }
}

impl Rule for SlowScan {
    fn name(&self) -> &'static str {
        "slow"
    }

    #[allow(clippy::cast_precision_loss)] // a count of ports is far below 2^52
    fn evaluate(&self, evidence: &Totals) -> Evaluation {
        let score = evidence.slow as f64;
        let enough = score >= f64::from(self.ports) * evidence.threshold_factor;
        Evaluation { score, convicts: evidence.slow >= 2 && enough }
    }

    fn reason(&self) -> String {
        let window = humantime::format_duration(self.window);
        format!("{} different ones within {window} convict", self.ports)
    }

    fn is_slow(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_convicts_at_its_number() {
        let rule = SlowScan::new(Duration::from_secs(30 * 86_400), 10);
        let touched = |slow| Totals { slow, threshold_factor: 1.0, ..Totals::default() };
        assert!(!rule.evaluate(&touched(9)).convicts && rule.evaluate(&touched(10)).convicts);
        assert_eq!(rule.reason(), "10 different ones within 30days convict");
    }
}
