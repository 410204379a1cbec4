//! Wald's sequential test, as Jung, Paxson, Berger and Balakrishnan apply it to port scans ("Fast Portscan
//! Detection Using Sequential Hypothesis Testing", IEEE S&P 2004, there called TRW).
//!
//! Each first contact with a port is an experiment, and its weight is the logarithm of how much likelier a scanner
//! does it than an innocent. Their sum is compared with `beta / alpha`. The paper also takes away for contacts that
//! succeed; here nothing that a stranger can do cheaply takes anything away, because he would do it: the sum only
//! grows, and what clears a source is the window.

use super::rule::{Evaluation, Rule, rounded};
use crate::evidence::Totals;

/// The test and its two dials.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sequential {
    alpha: f64,
    beta: f64,
    /// The logarithm of the ratio that convicts.
    threshold: f64,
}

impl Sequential {
    /// The test that convicts at most `alpha` of the innocent sources, and at least `beta` of the scanners. A smaller
    /// `alpha` needs more contacts; `beta` moves the threshold by little.
    #[must_use]
    pub fn new(alpha: f64, beta: f64) -> Self {
        Sequential { alpha, beta, threshold: (beta / alpha).ln() }
    }
}

impl Rule for Sequential {
    fn name(&self) -> &'static str {
        "sequential"
    }

    fn evaluate(&self, evidence: &Totals) -> Evaluation {
        let threshold = self.threshold * evidence.threshold_factor;
        // A signature helps to convict, but one port and a signature is no scan.
        let enough = if evidence.contacts >= 2 {
            evidence.score >= threshold
        } else {
            evidence.score_without_signature >= threshold
        };
        Evaluation { score: rounded(evidence.score), convicts: evidence.contacts >= 1 && enough }
    }

    fn reason(&self) -> String {
        format!("at most one innocent source in {:.0} does that", 1.0 / self.alpha)
    }
}

#[cfg(test)]
mod tests;
