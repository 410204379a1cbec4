//! What the administrator's `[[rule]]`s say about one contact. The first rule that applies and has a say about
//! something decides it.

use psentry_records::{Ignore, Prefix, Proto};

/// One rule, ready to be asked.
#[derive(Clone, Debug)]
pub struct NamedRule {
    /// What verdicts call it.
    pub name: String,
    pub(crate) ports: Option<Vec<(u16, u16)>>,
    pub(crate) proto: Option<Proto>,
    pub(crate) networks: Option<Ignore>,
    pub(crate) convict: bool,
    pub(crate) ignore: bool,
    pub(crate) handshake: bool,
    pub(crate) weight: Option<f64>,
    pub(crate) threshold: Option<f64>,
}

/// Which rules' networks a source is in, a bit each; so there are at most 64 rules.
pub(crate) type Networks = u64;

/// The most rules of a policy.
pub(crate) const MOST_RULES: usize = 64;

/// What the rules say of a contact.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Treatment {
    /// It never counts.
    pub ignore: bool,
    /// It counts only with a handshake.
    pub handshake: bool,
    /// Its weight is multiplied by this.
    pub weight: f64,
    /// It convicts at the first touch, by the rule of that number.
    pub convict: Option<usize>,
}

impl Default for Treatment {
    fn default() -> Self {
        Treatment { ignore: false, handshake: false, weight: 1.0, convict: None }
    }
}

impl NamedRule {
    /// Whether it never counts anything of somebody in that prefix.
    pub(crate) fn spares(&self, prefix: Prefix) -> bool {
        let all = self.ports.is_none() && self.proto.is_none();
        self.ignore && all && self.networks.as_ref().is_none_or(|networks| networks.touches(prefix))
    }

    fn applies(&self, port: Option<u16>, proto: Proto) -> bool {
        let inside = |&(first, last): &(u16, u16)| port.is_some_and(|port| first <= port && port <= last);
        self.ports.as_ref().is_none_or(|ranges| ranges.iter().any(inside))
            && self.proto.is_none_or(|only| only == proto)
    }
}

/// Which rules' networks hold that source.
pub(crate) fn networks_of(rules: &[NamedRule], scope: Prefix) -> Networks {
    let holds = |rule: &NamedRule| rule.networks.as_ref().is_none_or(|nets| nets.holds(scope.addr()));
    rules.iter().take(MOST_RULES).zip(0..).fold(0, |bits, (rule, n)| bits | u64::from(holds(rule)) << n)
}

/// What they say of a contact of a source in these networks.
pub(crate) fn treatment(rules: &[NamedRule], nets: Networks, port: Option<u16>, proto: Proto) -> Treatment {
    let mut treatment = Treatment::default();
    let mut weight = None;
    let applying =
        rules.iter().enumerate().filter(|&(n, rule)| nets >> n & 1 == 1 && rule.applies(port, proto));
    for (n, rule) in applying {
        // Whether it convicts or never counts is one question.
        if treatment.convict.is_none() && !treatment.ignore {
            treatment.convict = rule.convict.then_some(n);
            treatment.ignore = rule.ignore;
        }
        treatment.handshake |= rule.handshake;
        weight = weight.or(rule.weight);
    }
    treatment.weight = weight.unwrap_or(1.0);
    treatment
}

/// What they multiply the threshold of a source by. Ports play no part in it.
pub(crate) fn threshold(rules: &[NamedRule], nets: Networks) -> f64 {
    let said = |(n, rule): (usize, &NamedRule)| rule.threshold.filter(|_| nets >> n & 1 == 1);
    rules.iter().enumerate().find_map(said).unwrap_or(1.0)
}
