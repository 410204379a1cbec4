//! How far a block reaches: what its source is answered, which ports are shut to it, whether what only passes through
//! this machine is shut as well, and what becomes of connections that stand. It is the same for all blocks of a run.

use clap::ValueEnum;

/// What a source that is shut out is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Answer {
    /// Nothing.
    #[default]
    Drop,
    /// A reset, or that it is prohibited.
    Reject,
}

/// Which ports are shut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Ports {
    /// All of them.
    #[default]
    All,
    /// Those that the verdict names; without one, all.
    Probed,
}

/// What becomes of connections that stand when their source is shut out, and handshakes prove that it is who it says. Of
/// other sources they always go on: anybody may have forged what convicts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Established {
    /// Nothing of them arrives any more.
    #[default]
    Starved,
    /// They go on.
    Spared,
    /// They are ended at once.
    Cut,
}

/// How far the blocks of a run reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// What their sources are answered.
    pub answer: Answer,
    /// Which ports are shut to them.
    pub ports: Ports,
    /// Whether what this machine only forwards is shut out, too.
    pub forward: bool,
    /// Whether packets to them are dropped, too.
    pub egress: bool,
    /// What becomes of their connections.
    pub established: Established,
}

impl Default for Reach {
    fn default() -> Self {
        Reach {
            answer: Answer::Drop,
            ports: Ports::All,
            forward: true,
            egress: false,
            established: Established::Starved,
        }
    }
}

impl Reach {
    /// Whether established connections pass.
    #[must_use]
    pub fn spares(self, unproven: bool) -> bool {
        unproven || self.established == Established::Spared
    }
}
