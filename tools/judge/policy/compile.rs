//! From flags and file to the policy that the judge asks.

use std::path::{Path, PathBuf};

use psentry_ports::PortTable;
use psentry_records::{Ignore, Prefix};
use psentry_stage::{LastGood, Mode, host_name, read_ignore_files};

use super::Families;
use super::file::{File, PolicyError, Text};
use super::flags::PolicyFlags;
use super::rule::MAX_RULES;
use super::values::BlockDuration;
use super::weights::Weights;
use super::{IPV6_GROUP, Policy, PortSet};
use crate::rules::{Rule, Sequential, SlowScan, Touches, Trigger};

/// How many ports of one source are remembered, unless a trigger needs more.
const MAX_CONTACTS: usize = 32;

/// Of which each network may choose a translator's prefix (RFC 8215); others are in the table of ports. Behind one a /64 is
/// all of IPv4.
const LOCAL_TRANSLATORS: &str = "64:ff9b:1::/48";

/// What in a file cannot be used, and at which byte that is written.
struct Problem {
    at: usize,
    problem: String,
}

impl Policy {
    /// The policy that the flags and the file they name describe.
    ///
    /// # Errors
    /// A file that cannot be read, or something in it that cannot be used.
    pub fn from_flags(flags: &PolicyFlags) -> Result<Self, PolicyError> {
        Self::read(flags, &LastGood::default()).map(|(policy, _)| policy)
    }

    /// The same, and what is wrong with files in whose place their copies count.
    ///
    /// # Errors
    /// A file that cannot be used, and of which there is no copy that can.
    pub(crate) fn read(
        flags: &PolicyFlags,
        last_good: &LastGood,
    ) -> Result<(Self, Vec<PolicyError>), PolicyError> {
        let Some(path) = &flags.policy else { return Self::from_file(flags, &Text::default(), last_good) };
        let parse = |bytes: &[u8]| {
            Self::from_file(flags, &Text::new(path, &String::from_utf8_lossy(bytes)), last_good)
        };
        let ((policy, wrong), error) = last_good.read(path, Text::read(path).map(Text::into_bytes), parse)?;
        Ok((policy, error.into_iter().chain(wrong).collect()))
    }

    /// The policy of a text, as a file would hold it.
    ///
    /// # Errors
    /// Something in it cannot be used.
    pub fn from_text(text: &str) -> Result<Self, PolicyError> {
        let text = Text::new(Path::new("policy"), text);
        Self::from_file(&PolicyFlags::default(), &text, &LastGood::default()).map(|(policy, _)| policy)
    }

    /// The files that such a policy would come from, as far as they can be known, also where it cannot be used.
    pub(crate) fn files_of(flags: &PolicyFlags) -> Vec<PathBuf> {
        let text = flags.policy.as_ref().and_then(|path| Text::read(path).ok());
        let mut file = text.and_then(|text| text.parse().ok()).unwrap_or_default();
        flags.apply(&mut file);
        flags.files().chain(file.ignore.files).collect()
    }

    fn from_file(
        flags: &PolicyFlags,
        text: &Text,
        last_good: &LastGood,
    ) -> Result<(Self, Vec<PolicyError>), PolicyError> {
        let mut file = text.parse()?;
        flags.apply(&mut file);
        let files = flags.files().chain(file.ignore.files.iter().cloned()).collect();
        let (ignored, wrong) = read_ignore_files(&file.ignore.files, last_good)?;
        let parse = |bytes: &[u8]| PortTable::parse(&flags.ports, bytes);
        let (ports, error) = last_good.read(&flags.ports, PortTable::bytes(&flags.ports), parse)?;
        let wrong = wrong.into_iter().map(PolicyError::from).chain(error.map(PolicyError::from)).collect();
        let policy = Self::compile(file, ignored, &ports)
            .map_err(|Problem { at, problem }| text.refuse(at, problem))?;
        let own = flags.own.iter().copied().collect();
        Ok((Policy { files, own, host: flags.host.clone().or_else(host_name), ..policy }, wrong))
    }

    /// Works out what the judge asks; `ignored` are the prefixes of the lists that the file names.
    fn compile(file: File, mut ignored: Vec<Prefix>, ports: &PortTable) -> Result<Self, Problem> {
        let (alpha, beta) = (*file.test.alpha.get_ref(), *file.test.beta.get_ref());
        if alpha >= beta {
            // The one that is written is wrong; of two, the first that is named.
            return Err(if file.test.alpha.span().is_empty() {
                let problem = format!("beta is {beta}, and must be larger than alpha, which is {alpha}");
                Problem { at: file.test.beta.span().start, problem }
            } else {
                let problem = format!("alpha must be smaller than beta, which is {beta}");
                Problem { at: file.test.alpha.span().start, problem }
            });
        }
        if let Some(networks) = file.ignore.networks {
            let at = networks.span().start;
            let resolved = networks.into_inner().resolve(&file.groups);
            ignored.extend(resolved.map_err(|problem| Problem { at, problem })?);
        }
        let count = file.rule.len();
        let mut named = Vec::with_capacity(count);
        let mut ungrouped: Vec<Prefix> =
            LOCAL_TRANSLATORS.parse().ok().into_iter().chain(ports.translators.iter().copied()).collect();
        for (n, rule) in file.rule.into_iter().enumerate() {
            let at = rule.span().start;
            let mut rule = rule.into_inner();
            let prefixes = rule.prepare(&file.groups).map_err(|problem| Problem { at, problem })?;
            if n >= MAX_RULES {
                let problem = format!("there are {count} rules; write at most {MAX_RULES}");
                return Err(Problem { at, problem });
            }
            // A rule for some addresses of a /64 is for these, and not for whoever shares it.
            let narrow = |prefix: &Prefix| !prefix.is_ipv4() && prefix.len() > IPV6_GROUP;
            ungrouped.extend(prefixes.into_iter().filter(narrow));
            named.push(rule);
        }
        let trigger = file.test.trigger;
        let mut rules: Vec<Box<dyn Rule>> = vec![match trigger {
            Some(ports) => Box::new(Trigger::new(ports)),
            None => Box::new(Sequential::new(alpha, beta)),
        }];
        if file.slow.ports > 0 {
            rules.push(Box::new(SlowScan::new(file.slow.window, file.slow.ports)));
        }
        if file.test.touches > 0 {
            rules.push(Box::new(Touches::new(file.test.touches)));
        }
        let mut block = file.block;
        if let BlockDuration::For(proven) = block.duration {
            block.unproven = block.unproven.min(proven);
        }
        Ok(Policy {
            rules,
            named,
            weights: Weights::new(&file.evidence, file.test.theta1),
            window: file.test.window,
            slow: file.slow,
            block,
            levels: file.levels,
            sweep: file.sweep,
            inside: file.inside,
            brake: file.brake,
            vouch: file.vouch.duration,
            ignore: ignored.into_iter().collect(),
            ungrouped: ungrouped.into_iter().collect(),
            families: Families::new(ports),
            max_sources: file.memory.sources as usize,
            max_contacts: (trigger.unwrap_or(0) as usize).max(MAX_CONTACTS),
            touches: file.test.touches,
            worms: PortSet::new(&ports.worms),
            own: Ignore::default(),
            host: None,
            files: Vec::new(),
        })
    }
}

impl PolicyFlags {
    /// The files that the flags name, and that of the ports.
    fn files(&self) -> impl Iterator<Item = PathBuf> {
        self.policy.iter().cloned().chain([self.ports.clone()])
    }

    /// Lays the flags over what a file says.
    fn apply(&self, file: &mut File) {
        fn set<T: Copy>(value: &mut T, flag: Option<T>) {
            *value = flag.unwrap_or(*value);
        }
        file.test.trigger = self.trigger.or(file.test.trigger);
        set(&mut file.test.window, self.window);
        set(&mut file.block.duration, self.duration);
        set(&mut file.block.unproven, self.unproven);
        set(&mut file.memory.sources, self.max_sources);
        file.block.observe = self.observe
            || match self.mode {
                Mode::Observe => true,
                Mode::Block => false,
                Mode::Unset => file.block.observe,
            };
        file.ignore.files.extend(self.ignore.iter().cloned());
    }
}
