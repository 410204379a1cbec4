//! From flags, file and defaults to one policy.

use std::path::PathBuf;
use std::time::Duration;

use psentry_records::{Ignore, Prefix};
use psentry_stage::parse_duration;

use super::file::{self, File, PolicyError};
use super::rule::{MOST_RULES, NamedRule};
use super::values::{Length, Network};
use super::weights::{Odds, Weights};
use super::{Blocks, Brakes, IPV6_GROUP, Levels, Policy, Slow, Sweeps, defaults};
use crate::{JudgeError, PolicyFlags, Rule, Sequential, SlowScan, Trigger};

/// How many ports of one source are remembered, unless a trigger needs more.
const CONTACTS: usize = 32;

/// Behind a translator's prefix a /64 is all of IPv4 (RFC 6052, RFC 8215).
const TRANSLATORS: [&str; 2] = ["64:ff9b::/96", "64:ff9b:1::/48"];

/// A default that stands in `defaults.rs`, where a test reads every one.
pub(super) fn span(text: &str) -> Duration {
    parse_duration(text).unwrap_or_default()
}

impl Policy {
    /// The policy that the flags and the file they name describe.
    ///
    /// # Errors
    /// A file that cannot be read, or something in it that cannot be used.
    pub fn from_flags(flags: &PolicyFlags) -> Result<Self, JudgeError> {
        let files: Vec<PathBuf> = flags.policy.iter().cloned().collect();
        let file = match &flags.policy {
            Some(path) => File::read(path).map_err(JudgeError::Policy)?,
            None => File::default(),
        };
        Self::from_file(flags, &file, files)
    }

    /// The files that such a policy would come from, as far as they can be told, also where it cannot be used.
    pub(crate) fn files_of(flags: &PolicyFlags) -> Vec<PathBuf> {
        let file = flags.policy.as_ref().and_then(|path| File::read(path).ok()).unwrap_or_default();
        let named = file.ignore.files.into_iter().chain(flags.ignore.iter().cloned());
        flags.policy.iter().cloned().chain(named).collect()
    }

    /// The policy of a text, as it would stand in the file.
    ///
    /// # Errors
    /// Something in it cannot be used.
    pub fn from_text(text: &str) -> Result<Self, JudgeError> {
        let file = File::parse(std::path::Path::new("policy"), text).map_err(JudgeError::Policy)?;
        Self::from_file(&PolicyFlags::default(), &file, Vec::new())
    }

    fn from_file(flags: &PolicyFlags, file: &File, mut files: Vec<PathBuf>) -> Result<Self, JudgeError> {
        let whole = |problem| {
            let file = flags.policy.clone().unwrap_or_default();
            JudgeError::Policy(PolicyError::Whole { file, problem })
        };
        let mut ignore_files = file.ignore.files.clone();
        ignore_files.extend(flags.ignore.iter().cloned());
        let mut ignored = Ignore::read_prefixes(&ignore_files).map_err(JudgeError::Ignore)?;
        files.extend(ignore_files);
        if let Some(networks) = &file.ignore.networks {
            ignored.extend(resolve(file, networks.get_ref()).map_err(whole)?);
        }
        let rules = file.rule.iter().map(|rule| name_rule(file, rule.get_ref()));
        let named = rules.collect::<Result<Vec<_>, _>>().map_err(whole)?;
        // A rule for some addresses of a /64 is for these, and not for whoever shares it.
        let mut apart: Vec<Prefix> = TRANSLATORS.iter().filter_map(|prefix| prefix.parse().ok()).collect();
        for networks in file.rule.iter().filter_map(|rule| rule.get_ref().networks.as_ref()) {
            let prefixes = resolve(file, networks).map_err(whole)?;
            apart
                .extend(prefixes.into_iter().filter(|prefix| !prefix.is_ipv4() && prefix.len() > IPV6_GROUP));
        }
        let (ignored, apart) = (ignored.into_iter().collect(), apart.into_iter().collect());
        Ok(Self::assemble(flags, file, ignored, apart, named, files))
    }

    fn assemble(
        flags: &PolicyFlags,
        file: &File,
        ignore: Ignore,
        apart: Ignore,
        named: Vec<NamedRule>,
        files: Vec<PathBuf>,
    ) -> Self {
        use defaults as d;
        let alpha = file.test.alpha.as_ref().map_or(d::ALPHA, |alpha| *alpha.get_ref());
        let beta = file.test.beta.unwrap_or(d::BETA);
        let trigger = flags.trigger.or(file.test.trigger);
        let slow = Slow {
            window: file.slow.window.unwrap_or_else(|| span(d::SLOW_WINDOW)),
            ports: file.slow.ports.unwrap_or(d::SLOW_PORTS),
        };
        let mut rules: Vec<Box<dyn Rule>> = vec![match trigger {
            Some(ports) => Box::new(Trigger::new(ports)),
            None => Box::new(Sequential::new(alpha, beta)),
        }];
        if slow.ports > 0 {
            rules.push(Box::new(SlowScan::new(slow)));
        }
        let odds = Odds {
            decoy: file.evidence.decoy.unwrap_or(d::DECOY),
            udp: file.evidence.udp.unwrap_or(d::UDP),
            packet: file.evidence.packet.unwrap_or(d::PACKET),
            closed: file.evidence.closed.unwrap_or(d::CLOSED),
            flags: file.evidence.flags.unwrap_or(d::FLAGS),
            stray: file.evidence.stray.unwrap_or(d::STRAY),
            signature: file.evidence.signature.unwrap_or(d::SIGNATURE),
        };
        let duration =
            flags.duration.or(file.block.duration).unwrap_or_else(|| Length::For(span(d::DURATION)));
        let unproven = flags.unproven.or(file.block.unproven).unwrap_or_else(|| span(d::UNPROVEN));
        let max_sources = flags.max_sources.or(file.memory.sources).unwrap_or(d::MAX_SOURCES);
        Policy {
            rules,
            named,
            weights: Weights::new(&odds, file.test.theta1.unwrap_or(d::THETA1)),
            window: flags.window.or(file.test.window).unwrap_or_else(|| span(d::WINDOW)),
            slow,
            block: Blocks {
                duration,
                unproven: if let Length::For(most) = duration { unproven.min(most) } else { unproven },
                growth: file.block.growth.unwrap_or(d::GROWTH),
                longest: file.block.longest.unwrap_or_else(|| Length::For(span(d::LONGEST))),
                forgive: file.block.forgive.unwrap_or_else(|| span(d::FORGIVE)),
                jitter: file.block.jitter.unwrap_or(d::JITTER),
            },
            levels: Levels {
                packets: file.levels.packets.unwrap_or(d::PACKETS),
                watch: file.levels.watch.unwrap_or(d::WATCH_LEVEL),
                block: file.levels.block.unwrap_or(d::BLOCK_LEVEL),
            },
            sweep: Sweeps {
                sources: file.sweep.sources.unwrap_or(d::SWEEP_SOURCES) as usize,
                ipv4: file.sweep.ipv4.unwrap_or(d::SWEEP_IPV4),
                ipv6: file.sweep.ipv6.clone().unwrap_or_else(|| d::SWEEP_IPV6.to_vec()),
                duration: file.sweep.duration.unwrap_or_else(|| span(d::SWEEP_DURATION)),
                most: file.sweep.most.unwrap_or(d::SWEEP_MOST) as usize,
            },
            brake: Brakes {
                blocks: file.brake.blocks.unwrap_or(d::BRAKE_BLOCKS),
                pause: file.brake.pause.unwrap_or_else(|| span(d::BRAKE_PAUSE)),
            },
            vouch: file.vouch.duration.unwrap_or_else(|| span(d::VOUCH)),
            observe: flags.observe || file.block.observe.unwrap_or(false),
            ignore,
            apart,
            max_sources: max_sources as usize,
            max_contacts: (trigger.unwrap_or(0) as usize).max(CONTACTS),
            files,
        }
    }
}

impl File {
    /// What in it contradicts something else, and where that stands.
    pub(super) fn check(&self) -> Result<(), (usize, String)> {
        if let Some(alpha) = &self.test.alpha {
            let beta = self.test.beta.unwrap_or(defaults::BETA);
            if *alpha.get_ref() >= beta {
                let problem = format!("alpha must be smaller than beta, which is {beta}");
                return Err((alpha.span().start, problem));
            }
        } else if let Some(beta) = self.test.beta.filter(|&beta| beta <= defaults::ALPHA) {
            return Err((
                0,
                format!("beta is {beta}, and must be larger than alpha, which is {}", defaults::ALPHA),
            ));
        }
        if let Some(networks) = &self.ignore.networks {
            resolve(self, networks.get_ref()).map_err(|problem| (networks.span().start, problem))?;
        }
        for (n, rule) in self.rule.iter().enumerate() {
            let at = rule.span().start;
            name_rule(self, rule.get_ref()).map_err(|problem| (at, problem))?;
            if n >= MOST_RULES {
                return Err((at, format!("there are {} rules; write at most {MOST_RULES}", self.rule.len())));
            }
        }
        Ok(())
    }
}

/// The prefixes that a list of networks stands for.
fn resolve(file: &File, networks: &[Network]) -> Result<Vec<Prefix>, String> {
    let mut prefixes = Vec::new();
    for network in networks {
        match network {
            Network::Prefix(prefix) => prefixes.push(*prefix),
            Network::Group(name) => {
                let group = file.groups.get(name);
                let group = group.ok_or_else(|| format!("there is no group '{name}'; add it to [groups]"))?;
                prefixes.extend(group.iter().map(|member| member.0));
            }
        }
    }
    Ok(prefixes)
}

fn name_rule(file: &File, rule: &file::Rule) -> Result<NamedRule, String> {
    let name = rule.name.clone();
    let text = |text: &str| text.len() <= 60 && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
    if name.is_empty() || !text(&name) {
        return Err("the name of a rule is 1 to 60 characters of printable ASCII".to_owned());
    }
    if rule.convict && rule.ignore {
        return Err(format!("rule '{name}' both convicts and ignores; write one of the two"));
    }
    let does = rule.convict || rule.ignore || rule.handshake;
    if !does && rule.weight.is_none() && rule.threshold.is_none() {
        let advice = "write convict, ignore, handshake, weight or threshold";
        return Err(format!("rule '{name}' does nothing; {advice}"));
    }
    if rule.threshold.is_some() && (rule.ports.is_some() || rule.proto.is_some()) {
        return Err(format!("rule '{name}': a threshold is of a source, so it goes without ports and proto"));
    }
    let networks = rule.networks.as_ref().map(|networks| resolve(file, networks)).transpose();
    let networks = networks.map_err(|problem| format!("rule '{name}': {problem}"))?;
    Ok(NamedRule {
        name,
        ports: rule.ports.as_ref().map(|ports| ports.0.clone()),
        proto: rule.proto,
        networks: networks.map(|networks| networks.into_iter().collect()),
        convict: rule.convict,
        ignore: rule.ignore,
        handshake: rule.handshake,
        weight: rule.weight,
        threshold: rule.threshold,
    })
}
