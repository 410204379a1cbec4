//! What every rule is: a judgement of sums, with a name and a reason for the verdict.

use std::fmt::Debug;

use crate::evidence::Totals;

/// A way to decide whether the evidence against one source convicts it.
pub trait Rule: Debug + Send {
    /// Its name in verdicts; fixed, because others filter by it.
    fn name(&self) -> &'static str;

    /// Judges that evidence. It must not convict on none.
    fn evaluate(&self, evidence: &Totals) -> Evaluation;

    /// Why it convicts, to end a sentence that says what the source did.
    fn reason(&self) -> String;

    /// Whether it looks back beyond the window.
    fn is_slow(&self) -> bool {
        false
    }
}

/// What a rule makes of evidence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation {
    /// In the rule's own units; grows with the evidence.
    pub score: f64,
    /// Whether that is enough to convict.
    pub convicts: bool,
}

/// A score as verdicts report it: to three places.
pub(crate) fn rounded(score: f64) -> f64 {
    (score * 1000.0).round() / 1000.0
}
