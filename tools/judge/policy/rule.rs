//! What the administrator's `[[rule]]`s make of one contact. The first rule that applies and sets something decides that.

use psentry_records::{Prefix, Proto};
use serde::Deserialize;

use super::values::{self, Groups, NetworkList, Ports};

/// One rule of the file: the contacts to which it applies, and what it does about them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub struct NamedRule {
    /// Its name, which verdicts give as their rule.
    pub name: String,
    #[serde(default)]
    ports: Option<Ports>,
    #[serde(default, deserialize_with = "values::proto")]
    proto: Option<Proto>,
    #[serde(default)]
    networks: Option<NetworkList>,
    #[serde(default)]
    convict: bool,
    #[serde(default)]
    ignore: bool,
    #[serde(default)]
    handshake: bool,
    #[serde(default, deserialize_with = "values::factor")]
    weight: Option<f64>,
    #[serde(default, deserialize_with = "values::factor")]
    threshold: Option<f64>,
}

/// Which rules' networks a source is in, a bit each; so there are at most 64 rules.
pub(crate) type Networks = u64;

/// The most rules of a policy.
pub(crate) const MAX_RULES: usize = 64;

/// What verdicts say under `rule` where no `[[rule]]` decided. Filters go by it.
const RESERVED: [&str; 8] = ["sequential", "trigger", "slow", "touches", "sweep", "level", "brake", "vouch"];

/// What the rules say of a contact.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Treatment {
    /// It never counts as evidence.
    pub ignore: bool,
    /// It counts only with a handshake.
    pub handshake: bool,
    /// Its weight is multiplied by this.
    pub weight: f64,
    /// It convicts at the first touch, by the rule of that number.
    pub convict: Option<usize>,
    /// A rule names its protocol, and says what it weighs.
    pub named: bool,
}

impl Default for Treatment {
    fn default() -> Self {
        Treatment { ignore: false, handshake: false, weight: 1.0, convict: None, named: false }
    }
}

impl NamedRule {
    /// Makes it ready to be asked, and returns the prefixes of its networks.
    ///
    /// # Errors
    /// It contradicts itself, does nothing, or names a group that does not exist: a sentence without a place.
    pub(super) fn prepare(&mut self, groups: &Groups) -> Result<Vec<Prefix>, String> {
        let name = &self.name;
        let printable = name.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
        if name.is_empty() || name.len() > 60 || !printable {
            return Err("the name of a rule is 1 to 60 characters of printable ASCII".to_owned());
        }
        if RESERVED.contains(&name.as_str()) {
            return Err(format!(
                "'{name}' is what verdicts call a rule of the judge itself; give the rule another name"
            ));
        }
        if self.convict && self.ignore {
            return Err(format!("rule '{name}' both convicts and ignores; write one of the two"));
        }
        let does = self.convict || self.ignore || self.handshake;
        if !does && self.weight.is_none() && self.threshold.is_none() {
            let advice = "write convict, ignore, handshake, weight or threshold";
            return Err(format!("rule '{name}' does nothing; {advice}"));
        }
        if self.threshold.is_some() && (self.ports.is_some() || self.proto.is_some()) {
            return Err(format!(
                "rule '{name}': a threshold is for a source, so the rule cannot have ports or proto"
            ));
        }
        let prefixes = self.networks.as_mut().map(|networks| networks.resolve(groups)).transpose();
        let prefixes = prefixes.map_err(|problem| format!("rule '{name}': {problem}"))?;
        Ok(prefixes.unwrap_or_default())
    }

    /// Whether it never counts anything of somebody in that prefix.
    pub(crate) fn exempts(&self, prefix: Prefix) -> bool {
        let all = self.ports.is_none() && self.proto.is_none();
        self.ignore
            && all
            && self.networks.as_ref().is_none_or(|networks| networks.addresses().touches(prefix))
    }

    /// To a ping, and to others that have no port and are no evidence by themselves, it applies only if it names the
    /// protocol.
    fn applies(&self, port: Option<u16>, proto: Proto) -> bool {
        if port.is_none() && self.proto.is_none() && !is_evidence(proto) {
            return false;
        }
        let inside = |&(first, last): &(u16, u16)| port.is_some_and(|port| first <= port && port <= last);
        self.ports.as_ref().is_none_or(|ranges| ranges.0.iter().any(inside))
            && self.proto.is_none_or(|only| only == proto)
    }
}

/// Whether a packet without a port is evidence where no rule says so: all day machines ping each other, look for their
/// neighbours and join groups. Other protocols are few between two machines, so many of them are a scan.
fn is_evidence(proto: Proto) -> bool {
    matches!(proto, Proto::Number(_))
}

/// Which rules' networks hold that source.
pub(crate) fn networks_of(rules: &[NamedRule], scope: Prefix) -> Networks {
    let holds =
        |rule: &NamedRule| rule.networks.as_ref().is_none_or(|nets| nets.addresses().holds(scope.addr()));
    rules.iter().take(MAX_RULES).zip(0..).fold(0, |bits, (rule, n)| bits | u64::from(holds(rule)) << n)
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
        treatment.named |= rule.proto.is_some() && (rule.convict || rule.weight.is_some());
        weight = weight.or(rule.weight);
    }
    treatment.weight = weight.unwrap_or(1.0);
    treatment.ignore |= port.is_none() && !treatment.named && !is_evidence(proto);
    treatment
}

/// What they multiply the threshold of a source by. Ports play no part in it.
pub(crate) fn threshold(rules: &[NamedRule], nets: Networks) -> f64 {
    let threshold = |(n, rule): (usize, &NamedRule)| rule.threshold.filter(|_| nets >> n & 1 == 1);
    rules.iter().enumerate().find_map(threshold).unwrap_or(1.0)
}
