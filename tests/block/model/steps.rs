//! What may happen, at random: verdicts, what others and commands do, kills. Each step can be taken whatever was done
//! before it, so that a sequence stays one when steps are left out. A step reads as a line.
//!
//! The clock cannot be set: the one that psentry-block reads is the machine's own. What moves instead are the
//! timestamps: a verdict for 600 seconds that is dated 599 seconds ago ends in a second, so ends come by themselves while
//! other things happen, or are awaited.

use std::fmt;
use std::time::Duration;

use proptest::prelude::*;
use psentry_records::Timestamp;

use super::known::{Asked, Block};

/// Hosts and prefixes that hold each other; the last ones hold this machine.
const SCOPES: [&str; 12] = [
    "203.0.113.7",
    "203.0.113.8",
    "198.18.0.7/32",
    "::ffff:203.0.113.7",
    "203.0.113.6/31",
    "203.0.113.0/24",
    "198.18.0.0/15",
    "2001:db8:7::7",
    "2001:db8:7::/64",
    "2001:db8:7:1::/64",
    "2001:db8:7::/48",
    REFUSED,
];
pub const REFUSED: &str = "198.51.100.0/24";

#[derive(Clone)]
pub enum Step {
    /// A verdict, and its outcome.
    Say(Say),
    /// Verdicts in one piece, and all their outcomes.
    Burst(Vec<Say>),
    /// Verdicts in one piece, and a kill after so many outcomes.
    BurstAndKill(Vec<Say>, usize),
    /// Whatever ends soon, ends.
    End,
    /// Somebody damages what a backend keeps; on which of the backends, and which of the ways.
    Damage(usize, usize),
    /// Somebody deletes blocks, on which of the backends.
    Delete(usize, Vec<&'static str>),
    /// Somebody has a block end at another time, on which of the backends; so many seconds from now, or never.
    Retime(usize, &'static str, Option<u64>),
    /// Somebody adds a block, on which of the backends, to those that are proven or to the others.
    Add(usize, &'static str, bool),
    /// `psentry-block block` for so many seconds.
    Block(&'static str, u64),
    /// `psentry-block unblock`.
    Unblock(&'static str),
    /// `psentry-block flush`.
    Flush,
    /// SIGKILL. Whoever needs psentry-block again starts it.
    Kill,
    /// SIGTERM.
    Stop,
}

/// A verdict; how many seconds, and dated how many milliseconds after now.
#[derive(Clone)]
pub struct Say {
    scope: &'static str,
    block: Option<(Option<u64>, i64)>,
    /// Whether it says that no handshake proves it.
    unproven: bool,
}

impl Say {
    /// The line, with a number by which its outcome is known, and what it asks for.
    pub fn line(&self, number: u16) -> (String, Asked) {
        let scope = self.scope.parse().unwrap();
        let now = Timestamp::now();
        let dated = self.block.map_or(0, |(_, dated)| dated);
        let dated = Timestamp::from_micros(now.micros() + dated * 1000).unwrap();
        let (action, duration) = match self.block {
            Some((Some(seconds), _)) => ("block", format!(",\"duration\":{seconds}")),
            Some((None, _)) => ("block", String::new()),
            None => ("unblock", String::new()),
        };
        let until = |seconds| dated.min(now).plus(Duration::from_secs(seconds));
        let block =
            self.block.map(|(seconds, _)| Block { until: seconds.map(until), unproven: self.unproven });
        let asked = Asked { scope, block, refused: self.scope == REFUSED, sent: now, undated: dated > now };
        let proof = if self.unproven { ",\"handshake\":false" } else { "" };
        let line = format!(
            "{{\"timestamp\":\"{dated}\",\"event_type\":\"verdict\",\"dest_port\":{number},\
             \"verdict\":{{\"action\":\"{action}\",\"scope\":\"{}\"{duration}{proof}}}}}\n",
            self.scope
        );
        (line, asked)
    }
}

pub fn steps() -> impl Strategy<Value = Vec<Step>> {
    let says = || prop::collection::vec(say(), 2..8);
    let step = prop_oneof![
        10 => say().prop_map(Step::Say),
        3 => says().prop_map(Step::Burst),
        2 => (says(), 0..4usize).prop_map(|(says, after)| Step::BurstAndKill(says, after)),
        1 => Just(Step::End),
        3 => (backend(), 0..90usize).prop_map(|(on, way)| Step::Damage(on, way)),
        2 => (backend(), prop::collection::vec(scope(), 1..4)).prop_map(|(on, s)| Step::Delete(on, s)),
        2 => (backend(), scope(), prop::sample::select(ENDS)).prop_map(|(on, s, end)| Step::Retime(on, s, end)),
        2 => (backend(), scope(), any::<bool>()).prop_map(|(on, s, unproven)| Step::Add(on, s, unproven)),
        1 => (scope(), prop::sample::select(&[300, 9000][..])).prop_map(|(s, t)| Step::Block(s, t)),
        2 => scope().prop_map(Step::Unblock),
        1 => Just(Step::Flush),
        2 => Just(Step::Kill),
        1 => Just(Step::Stop),
    ];
    prop::collection::vec(step, 1..=30)
}

/// Before and after the ends of verdicts, and soon.
const ENDS: &[Option<u64>] = &[Some(5), Some(1000), Some(20_000), None];

/// One of the backends, however many there are.
fn backend() -> impl Strategy<Value = usize> {
    0..60usize
}

fn scope() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&SCOPES[..])
}

fn say() -> impl Strategy<Value = Say> {
    let block = prop_oneof![
        4 => (prop::sample::select(vec![600, 7200]), -300_000..=0i64).prop_map(|(s, dated)| (Some(s), dated)),
        1 => Just((Some(600), 86_400_000)),
        2 => (500..2000i64).prop_map(|left| (Some(600), left - 600_000)),
        1 => Just((Some(600), -600_001)),
        1 => Just((None, 0)),
    ];
    let say = (scope(), prop::option::weighted(0.75, block), any::<bool>());
    say.prop_map(|(scope, block, unproven)| Say { scope, block, unproven: unproven && block.is_some() })
}

impl fmt::Debug for Say {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let proof = if self.unproven { "unproven " } else { "" };
        match self.block {
            None => write!(f, "unblock {}", self.scope),
            Some((None, _)) => write!(f, "{proof}block {}", self.scope),
            Some((Some(seconds), dated)) => {
                write!(
                    f,
                    "{proof}block {} for {seconds} s, dated {} s from now",
                    self.scope,
                    dated as f64 / 1e3
                )
            }
        }
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |says: &[Say]| says.iter().map(|say| format!("{say:?}")).collect::<Vec<_>>().join("; ");
        match self {
            Step::Say(say) => write!(f, "{say:?}"),
            Step::Burst(says) => write!(f, "at once: {}", list(says)),
            Step::BurstAndKill(says, after) => {
                write!(f, "at once: {}; kill -9 after {after} outcomes", list(says))
            }
            Step::End => write!(f, "what ends soon ends"),
            Step::Damage(on, way) => write!(f, "damage {way} on backend {on}"),
            Step::Delete(on, scopes) => write!(f, "somebody deletes {} on backend {on}", scopes.join(", ")),
            Step::Retime(on, scope, seconds) => {
                write!(f, "somebody has {scope} end in {seconds:?} s on backend {on}")
            }
            Step::Add(on, scope, unproven) => {
                let proof = if *unproven { "unproven " } else { "" };
                write!(f, "somebody adds {proof}{scope} on backend {on}")
            }
            Step::Block(scope, seconds) => write!(f, "psentry-block block {scope} --for {seconds}s"),
            Step::Unblock(scope) => write!(f, "psentry-block unblock {scope}"),
            Step::Flush => write!(f, "psentry-block flush"),
            Step::Kill => write!(f, "kill -9"),
            Step::Stop => write!(f, "kill -15"),
        }
    }
}
