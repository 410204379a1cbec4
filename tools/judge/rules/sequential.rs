//! Wald's sequential test, as Jung, Paxson, Berger and Balakrishnan apply it to port scans ("Fast Portscan
//! Detection Using Sequential Hypothesis Testing", IEEE S&P 2004, there called TRW).
//!
//! Each first contact with a port is an experiment. An innocent source fails, that is, lands on a decoy, with
//! probability `1 - theta0`; a scanner with `1 - theta1`. The likelihood ratio of all experiments is compared with
//! `beta / alpha`. Decoys show failures only, so here the ratio only grows; what clears a source is the window.

use super::{Rule, Weight};

/// The test and its four dials.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sequential {
    /// How likely a contact of an innocent source is no decoy. 0.99: one in a hundred is a slip.
    pub theta0: f64,
    /// How likely a contact of a scanner is no decoy. 0.1: nine in ten of its ports are decoys.
    pub theta1: f64,
    /// How many innocent sources may be convicted. Smaller needs more contacts.
    pub alpha: f64,
    /// How many scanners must be convicted. It moves the threshold by little.
    pub beta: f64,
}

impl Default for Sequential {
    /// Nobody has a reason to touch a decoy, so a touch weighs much: two of them convict.
    fn default() -> Self {
        Sequential { theta0: 0.99, theta1: 0.1, alpha: 0.001, beta: 0.99 }
    }
}

impl Sequential {
    /// The logarithm of what one failure multiplies the ratio by.
    fn failure(&self) -> f64 {
        ((1.0 - self.theta1) / (1.0 - self.theta0)).ln()
    }

    /// The logarithm of the ratio that convicts.
    fn threshold(&self) -> f64 {
        (self.beta / self.alpha).ln()
    }
}

impl Rule for Sequential {
    fn name(&self) -> &'static str {
        "sequential"
    }

    fn weigh(&self, distinct: usize) -> Weight {
        #[allow(clippy::cast_precision_loss)] // a count of ports is far below 2^52
        let score = distinct as f64 * self.failure();
        Weight { score: (score * 1000.0).round() / 1000.0, convicts: score >= self.threshold() }
    }

    fn grounds(&self) -> String {
        format!("at most one innocent source in {:.0} does that", 1.0 / self.alpha)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Failures in a row that convict, as the paper and psentry's design work them out.
    #[test]
    fn it_convicts_after_as_many_failures_as_the_paper_says() {
        for (theta0, theta1, alpha, failures) in [
            (0.8, 0.2, 1e-2, 4),
            (0.8, 0.2, 1e-3, 5),
            (0.8, 0.2, 1e-5, 9),
            (0.95, 0.2, 1e-4, 4),
            (0.99, 0.1, 1e-3, 2),
            (0.999, 0.1, 1e-4, 2),
        ] {
            let test = Sequential { theta0, theta1, alpha, beta: 0.99 };
            assert!(!test.weigh(failures - 1).convicts, "{test:?}");
            assert!(test.weigh(failures).convicts, "{test:?}");
        }
    }

    #[test]
    fn by_default_two_decoys_convict() {
        assert!(!Sequential::default().weigh(1).convicts);
        assert!(Sequential::default().weigh(2).convicts);
    }
}
