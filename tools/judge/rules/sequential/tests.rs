//! The test beside the paper it follows: psentry's weights, threshold and clamp in the paper's own experiment.

use super::*;
use crate::evidence::{Class, Classes};
use crate::policy::{Odds, Weights};

fn totals(distinct: usize, weight: f64) -> Totals {
    #[allow(clippy::cast_precision_loss)]
    let score = distinct as f64 * weight;
    Totals {
        distinct,
        contacts: distinct,
        score,
        score_without_signature: score,
        threshold_factor: 1.0,
        ..Totals::default()
    }
}

/// What a failure weighs when an innocent fails with probability `1 - theta0`.
fn failure(theta0: f64, theta1: f64) -> f64 {
    let odds = 1.0 / (1.0 - theta0);
    let odds = Odds {
        decoy: odds,
        udp: odds,
        packet: odds,
        closed: odds,
        flags: odds,
        stray: odds,
        signature: 1.0,
        ..Odds::default()
    };
    Weights::new(&odds, theta1).of(Classes::one(Class::Decoy))
}

/// The table of the paper, worked out for other dials too: theta0, theta1, alpha, failures in a row that convict,
/// and the expected number of contacts until a scanner is convicted.
const TABLE: [(f64, f64, f64, usize, f64); 6] = [
    (0.8, 0.2, 1e-2, 4, 5.4),
    (0.8, 0.2, 1e-3, 5, 8.2),
    (0.8, 0.2, 1e-5, 9, 13.6),
    (0.95, 0.2, 1e-4, 4, 4.8),
    (0.99, 0.1, 1e-3, 2, 1.8),
    (0.999, 0.1, 1e-4, 2, 1.5),
];

#[test]
fn it_convicts_after_as_many_failures_as_the_paper_says() {
    for (theta0, theta1, alpha, failures, _) in TABLE {
        let test = Sequential::new(alpha, 0.99);
        let weight = failure(theta0, theta1);
        assert!(!test.evaluate(&totals(failures - 1, weight)).convicts, "{test:?}");
        assert!(test.evaluate(&totals(failures, weight)).convicts, "{test:?}");
    }
}

#[test]
fn the_expected_number_of_contacts_is_the_paper_s() {
    for (theta0, theta1, alpha, _, expected) in TABLE {
        let (test, fail) = (Sequential::new(alpha, 0.99), failure(theta0, theta1));
        let success = (theta1 / theta0).ln();
        let lower = ((1.0 - test.beta) / (1.0 - alpha)).ln();
        let drift = theta1 * success + (1.0 - theta1) * fail;
        let contacts = (test.beta * test.threshold + (1.0 - test.beta) * lower) / drift;
        assert!((contacts - expected).abs() < 0.1, "{theta0} {theta1} {alpha}: {contacts}");
    }
}

/// The paper's experiment, with successes that take away: innocents and scanners are told apart as alpha and beta
/// promise. Wald's bounds are alpha / beta and (1 - beta) / (1 - alpha), a little above alpha and 1 - beta.
#[test]
fn random_walks_end_as_alpha_and_beta_promise() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut uniform = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        #[allow(clippy::cast_precision_loss)]
        let unit = (state >> 11) as f64 / (1u64 << 53) as f64;
        unit
    };
    for (theta0, theta1, alpha, ..) in TABLE.into_iter().filter(|row| row.2 >= 1e-3) {
        let (test, fail) = (Sequential::new(alpha, 0.99), failure(theta0, theta1));
        let (success, lower) = ((theta1 / theta0).ln(), ((1.0 - test.beta) / (1.0 - alpha)).ln());
        let mut convicted = |succeeds: f64| {
            let mut score = 0.0;
            while score > lower {
                score += if uniform() < succeeds { success } else { fail };
                let evidence = Totals { score, score_without_signature: score, ..totals(2, 0.0) };
                if test.evaluate(&evidence).convicts {
                    return true;
                }
            }
            false
        };
        let innocents = (0..50_000).filter(|_| convicted(theta0)).count();
        let scanners = (0..50_000).filter(|_| convicted(theta1)).count();
        #[allow(clippy::cast_precision_loss)]
        let (innocents, scanners) = (innocents as f64 / 50_000.0, scanners as f64 / 50_000.0);
        // Three standard deviations of 50,000 draws above Wald's bound.
        assert!(innocents <= alpha / 0.99 + 3.0 * (alpha / 50_000.0).sqrt(), "{alpha}: {innocents}");
        assert!(scanners >= 0.985, "{theta0} {theta1} {alpha}: {scanners}");
    }
}

#[test]
fn a_signature_helps_and_alone_does_not_convict() {
    let test = Sequential::new(0.001, 0.99);
    let one = Totals {
        contacts: 1,
        score: 100.0,
        score_without_signature: 4.5,
        threshold_factor: 1.0,
        ..Totals::default()
    };
    assert!(!test.evaluate(&one).convicts);
    assert!(test.evaluate(&Totals { contacts: 2, ..one }).convicts);
    assert!(test.evaluate(&Totals { score_without_signature: 7.0, ..one }).convicts);
    assert!(!test.evaluate(&Totals { threshold_factor: 1.0, ..Totals::default() }).convicts);
    assert!(
        !test.evaluate(&Totals::default()).convicts,
        "a threshold of nothing convicts nobody without evidence"
    );
}
