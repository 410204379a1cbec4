//! The slow scan: a port a day stays below every window of minutes. So different ports are remembered for long, and
//! many of them convict however far they lie apart. Only decoys and impossible flags count here: in a month everybody
//! sends late packets, and behind one address many people knock at ports that are closed.

use super::{Rule, Weight};
use crate::evidence::View;
use crate::policy::Slow;

/// Convicts at that many different ports within a long time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlowScan {
    slow: Slow,
}

impl SlowScan {
    /// With these dials; at least two ports.
    #[must_use]
    pub fn new(slow: Slow) -> Self {
        SlowScan { slow: Slow { ports: slow.ports.max(2), ..slow } }
    }
}

impl Rule for SlowScan {
    fn name(&self) -> &'static str {
        "slow"
    }

    #[allow(clippy::cast_precision_loss)] // a count of ports is far below 2^52
    fn weigh(&self, evidence: &View) -> Weight {
        let score = evidence.slow as f64;
        let enough = score >= f64::from(self.slow.ports) * evidence.threshold;
        Weight { score, convicts: evidence.slow >= 2 && enough }
    }

    fn grounds(&self) -> String {
        let window = humantime::format_duration(self.slow.window);
        format!("{} different ones within {window} convict", self.slow.ports)
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
        let rule = SlowScan::new(Slow { window: std::time::Duration::from_secs(30 * 86_400), ports: 10 });
        let touched = |slow| View { slow, threshold: 1.0, ..View::default() };
        assert!(!rule.weigh(&touched(9)).convicts && rule.weigh(&touched(10)).convicts);
        assert_eq!(rule.grounds(), "10 different ones within 30days convict");
    }
}
