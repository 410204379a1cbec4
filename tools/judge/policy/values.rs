//! The values of a policy, each refused while it is read: the error then knows its line and column.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use psentry_records::{Ignore, Prefix, Proto};
use psentry_stage::parse_duration;
use serde::{Deserialize, Deserializer, de};
use toml::Spanned;

use super::sections::InsideAction;
use crate::limits::{MAX_BRAKE, MAX_SOURCES, MAX_TRIGGER};

/// How long a block lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockDuration {
    /// For that long, in whole seconds.
    For(Duration),
    /// Until it is unblocked by a command.
    Forever,
}

impl std::str::FromStr for BlockDuration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "forever" {
            return Ok(BlockDuration::Forever);
        }
        parse_duration(text).map(BlockDuration::For).map_err(|error| format!("{error}, or forever"))
    }
}

/// Text or a whole number of seconds.
struct Spelled(String);

impl<'de> Deserialize<'de> for Spelled {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl de::Visitor<'_> for Either {
            type Value = Spelled;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text such as \"10m\", or a whole number")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Spelled, E> {
                Ok(Spelled(text.to_owned()))
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Spelled, E> {
                Ok(Spelled(number.to_string()))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

pub(super) fn block_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BlockDuration, D::Error> {
    Spelled::deserialize(deserializer)?.0.parse().map_err(de::Error::custom)
}

pub(super) fn span<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse_duration(&Spelled::deserialize(deserializer)?.0).map_err(de::Error::custom)
}

/// Reads a value that has to fit; `bounds` is the sentence that says what to write.
fn bounded<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
    fits: impl Fn(&T) -> bool,
    bounds: &str,
) -> Result<T, D::Error> {
    let value = T::deserialize(deserializer)?;
    if fits(&value) { Ok(value) } else { Err(de::Error::custom(bounds)) }
}

pub(super) fn probability<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    bounded(deserializer, |p| *p > 0.0 && *p < 1.0, "write a number between 0 and 1, without the two")
}

/// A probability that knows its place in the text, because it is compared with another one.
pub(super) fn placed_probability<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Spanned<f64>, D::Error> {
    let bounds = "write a number between 0 and 1, without the two";
    bounded(deserializer, |p: &Spanned<f64>| *p.get_ref() > 0.0 && *p.get_ref() < 1.0, bounds)
}

pub(super) fn odds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let bounds = "write a number N from 1 to 1000000000: one in N first contacts of innocents is of this kind, and 1 is no evidence";
    bounded(deserializer, |odds| (1.0..=1e9).contains(odds), bounds)
}

pub(super) fn factor<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    let fits = |factor: &f64| (0.0..=1000.0).contains(factor);
    bounded(deserializer, fits, "write a number from 0 to 1000").map(Some)
}

pub(super) fn growth<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    bounded(deserializer, |growth| (1.0..=100.0).contains(growth), "write a number from 1 to 100")
}

pub(super) fn jitter<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    bounded(deserializer, |jitter| (0.0..=0.5).contains(jitter), "write a number from 0 to 0.5")
}

pub(super) fn level<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
    bounded(deserializer, |level| *level <= 5, "write a level from 1 to 5, or 0 for none")
}

pub(super) fn trigger<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    bounded(deserializer, |ports| (1..=MAX_TRIGGER).contains(ports), "write a number from 1 to 100").map(Some)
}

pub(super) fn touches<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let bounds = "write a number of touches from 1 to 1000000, or 0, which turns it off";
    bounded(deserializer, |touches| *touches <= 1_000_000, bounds)
}

pub(super) fn slow_ports<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let bounds = "write a number of ports from 2 to 32, or 0 for no memory of slow scans";
    bounded(deserializer, |ports| *ports == 0 || (2..=32).contains(ports), bounds)
}

pub(super) fn packets<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u32; 5], D::Error> {
    let bounds = "write five numbers of packets, each larger than the one before, at most 65535";
    let grow = |packets: &[u32; 5]| {
        packets.is_sorted_by(|one, next| one < next) && packets.iter().all(|&packets| packets <= 65_535)
    };
    bounded(deserializer, grow, bounds)
}

pub(super) fn sweep_sources<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let bounds = "write a number of sources from 2 to 256, or 0 for no sweeps";
    bounded(deserializer, |sources| *sources == 0 || (2..=256).contains(sources), bounds)
}

pub(super) fn ipv4_lens<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    /// Once it was one length, and is still read so.
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Lens {
        One(u8),
        Several(Vec<u8>),
    }
    let bounds = "write at most four lengths of IPv4 prefixes from 31 to 24, the longest first";
    let lens = match Lens::deserialize(deserializer).map_err(|_| de::Error::custom(bounds))? {
        Lens::One(len) => vec![len],
        Lens::Several(lens) => lens,
    };
    if are_lengths(&lens, 24..=31) { Ok(lens) } else { Err(de::Error::custom(bounds)) }
}

pub(super) fn ipv6_lens<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let bounds = "write at most four lengths of IPv6 prefixes from 63 to 48, the longest first";
    bounded(deserializer, |lens: &Vec<u8>| are_lengths(lens, 48..=63), bounds)
}

/// Whether these are a few lengths of prefixes, one within another.
fn are_lengths(lens: &[u8], range: std::ops::RangeInclusive<u8>) -> bool {
    lens.len() <= 4 && lens.iter().all(|len| range.contains(len)) && lens.is_sorted_by(|a, b| a > b)
}

/// A protocol: one that has ports, or one of which a contact is evidence only if a rule names it.
pub(super) fn proto<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Proto>, D::Error> {
    match Proto::from_name(&Spelled::deserialize(deserializer)?.0.to_ascii_lowercase()) {
        Proto::Other => {
            let advice = "write \"tcp\", \"udp\", \"sctp\", \"icmp\", \"icmpv6\", \"igmp\", or the number of a protocol";
            Err(de::Error::custom(advice))
        }
        proto => Ok(Some(proto)),
    }
}

pub(super) fn inside<'de, D: Deserializer<'de>>(deserializer: D) -> Result<InsideAction, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "watch" => Ok(InsideAction::Watch),
        "block" => Ok(InsideAction::Block),
        "ignore" => Ok(InsideAction::Ignore),
        _ => Err(de::Error::custom("write \"watch\", \"block\" or \"ignore\"")),
    }
}

pub(super) fn networks_a_minute<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let bounds = "write a number of networks from 1 to 10000, or 0 for no brake";
    bounded(deserializer, |most| *most <= MAX_BRAKE, bounds)
}

pub(super) fn sources<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    bounded(deserializer, |most| (2..=MAX_SOURCES).contains(most), "write a number from 2 to 10000000")
}

/// Ports of a rule: numbers, and texts such as `"8000-8010"`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ports(pub(crate) Vec<(u16, u16)>);

impl<'de> Deserialize<'de> for Ports {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut ranges = Vec::new();
        for Spelled(text) in Vec::<Spelled>::deserialize(deserializer)? {
            let (first, last) = text.split_once('-').unwrap_or((&text, &text));
            let port = |text: &str| text.trim().parse::<u16>().ok();
            match (port(first), port(last)) {
                (Some(first), Some(last)) if first <= last => ranges.push((first, last)),
                _ => {
                    let shown: String = text.chars().take(40).collect();
                    let advice = "is no port such as 23 and no range such as \"8000-8010\"";
                    return Err(de::Error::custom(format!("'{shown}' {advice}")));
                }
            }
        }
        Ok(Ports(ranges))
    }
}

/// A prefix, or `@` and the name of a group of them.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Network {
    Prefix(Prefix),
    Group(String),
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if let Some(name) = text.strip_prefix('@') {
            return Ok(Network::Group(name.to_owned()));
        }
        Ignore::parse_entry(&text).map(Network::Prefix).map_err(de::Error::custom)
    }
}

/// The networks of a rule or of `[ignore]`. Groups may be written below what names them, so the prefixes are known only
/// when all of the file is read.
#[derive(Clone, Debug, Default)]
pub(crate) struct NetworkList {
    written: Vec<Network>,
    resolved: Ignore,
}

impl<'de> Deserialize<'de> for NetworkList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = Vec::deserialize(deserializer)?;
        Ok(NetworkList { written, resolved: Ignore::default() })
    }
}

impl NetworkList {
    /// Looks the groups up, and returns the prefixes of all its networks.
    ///
    /// # Errors
    /// There is no such group.
    pub(super) fn resolve(&mut self, groups: &Groups) -> Result<Vec<Prefix>, String> {
        let mut prefixes = Vec::new();
        for network in &self.written {
            match network {
                Network::Prefix(prefix) => prefixes.push(*prefix),
                Network::Group(name) => {
                    let group = groups.get(name);
                    let group =
                        group.ok_or_else(|| format!("there is no group '{name}'; add it to [groups]"))?;
                    prefixes.extend(group.iter().map(|member| member.0));
                }
            }
        }
        self.resolved = prefixes.iter().copied().collect();
        Ok(prefixes)
    }

    /// Its addresses, once it is resolved.
    pub(super) fn addresses(&self) -> &Ignore {
        &self.resolved
    }
}

/// `[groups]`: networks by name.
pub(super) type Groups = BTreeMap<String, Vec<GroupMember>>;

/// A prefix of a group.
pub(super) struct GroupMember(pub(super) Prefix);

impl<'de> Deserialize<'de> for GroupMember {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ignore::parse_entry(&text).map(GroupMember).map_err(de::Error::custom)
    }
}
