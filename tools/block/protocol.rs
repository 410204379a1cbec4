//! What psentry-block answers on its control socket. The questions are those of all tools, [`psentry_control::Question`].
//!
//! | question | answer |
//! |---|---|
//! | a verdict record that blocks or unblocks | an outcome record for each backend |
//! | `{"ask":"flush"}` | an outcome `released` for each block and backend |
//! | `{"ask":"list"}` | an outcome record for each block that is there, and each backend |
//! | `{"ask":"why","addr":"192.0.2.7"}` | a [`Prospect`], and an outcome record for each block of it, there or not |
//! | `{"ask":"status"}` | a [`Report`] for each backend |
//!
//! Notes and errors beside them are those of [`psentry_control::Reply`].

use psentry_records::Timestamp;
use psentry_stage::panic_file::Order;
use serde::{Deserialize, Serialize};

use crate::brake::Holding;
use crate::desired::Full;

/// What a verdict on somebody who is not blocked would come to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Prospect {
    /// Whether it would block.
    pub(crate) may_block: bool,
    /// What keeps it from that, or what to know of it, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
}

/// How one backend is. The last five are of all backends together, and the same in each line.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Report {
    /// Which.
    pub(crate) backend: String,
    /// Since when all that is wanted is there; absent: not all of it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) since: Option<Timestamp>,
    /// How many blocks are wanted; absent: not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) wanted: Option<usize>,
    /// How many of those are there, read from where they are; absent: that could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) standing: Option<usize>,
    /// How many failed and are tried again.
    pub(crate) failing: usize,
    /// How many are made once somebody has logged out.
    pub(crate) waiting: usize,
    /// How many have not been tried yet.
    pub(crate) queued: usize,
    /// Why what is there does not block.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) shadowed: Vec<String>,
    /// The latest failure, and when that was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error_at: Option<Timestamp>,
    /// What was last put back that others took away, and when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) repair: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) repaired: Option<Timestamp>,
    /// Why what is wanted is not remembered beyond a reboot; absent: it is, or nobody asked for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory: Option<String>,
    /// Why records are being lost; absent: they are written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) unwritten: Option<String>,
    /// Which settings are wrong, so that their last good copies count; absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) wrong_settings: Option<String>,
    /// The panic that holds, as this psentry-block sees it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) panic: Option<Order>,
    /// That the brake holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) brake: Option<Holding>,
    /// That there is no room for another block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) full: Option<Full>,
}

impl Report {
    /// Whether all that is wanted is there. Where that is not known, it is not.
    pub(crate) fn is_whole(&self) -> bool {
        self.failing == 0 && self.wanted.is_some() && self.standing >= self.wanted
    }
}
