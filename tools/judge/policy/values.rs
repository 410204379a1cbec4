//! The values of a policy, each refused where it stands: the file's reader then knows line and column.

use std::fmt;
use std::time::Duration;

use psentry_records::{Ignore, Prefix};
use psentry_stage::parse_duration;
use serde::{Deserialize, Deserializer, de};
use toml::Spanned;

/// A span of time, or for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// That long.
    For(Duration),
    /// Until somebody ends it.
    Forever,
}

impl Length {
    /// The shorter of the two.
    #[must_use]
    pub fn min(self, other: Length) -> Length {
        match (self, other) {
            (Length::For(one), Length::For(other)) => Length::For(one.min(other)),
            (Length::Forever, shorter) | (shorter, Length::Forever) => shorter,
        }
    }
}

impl std::str::FromStr for Length {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "forever" {
            return Ok(Length::Forever);
        }
        parse_duration(text).map(Length::For).map_err(|error| format!("{error}, or forever"))
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

pub(crate) fn length<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Length>, D::Error> {
    Spelled::deserialize(deserializer)?.0.parse().map(Some).map_err(de::Error::custom)
}

pub(crate) fn span<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    parse_duration(&Spelled::deserialize(deserializer)?.0).map(Some).map_err(de::Error::custom)
}

/// A number with bounds, the sentence that says which, and how to read it.
fn bounded<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
    fits: impl Fn(&T) -> bool,
    bounds: &str,
) -> Result<Option<T>, D::Error> {
    let value = T::deserialize(deserializer)?;
    if fits(&value) { Ok(Some(value)) } else { Err(de::Error::custom(bounds)) }
}

pub(crate) fn probability<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    bounded(deserializer, |p| *p > 0.0 && *p < 1.0, "write a number between 0 and 1, without the two")
}

/// A probability that knows where it stands, to be compared with another one.
pub(crate) fn placed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Spanned<f64>>, D::Error> {
    let bounds = "write a number between 0 and 1, without the two";
    bounded(deserializer, |p: &Spanned<f64>| *p.get_ref() > 0.0 && *p.get_ref() < 1.0, bounds)
}

pub(crate) fn odds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    let bounds = "write one in how many: a number from 1 (counts nothing) to 1000000000";
    bounded(deserializer, |odds| (1.0..=1e9).contains(odds), bounds)
}

pub(crate) fn factor<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    bounded(deserializer, |factor| (0.0..=1000.0).contains(factor), "write a number from 0 to 1000")
}

pub(crate) fn growth<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    bounded(deserializer, |growth| (1.0..=100.0).contains(growth), "write a number from 1 to 100")
}

pub(crate) fn jitter<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    bounded(deserializer, |jitter| (0.0..=0.5).contains(jitter), "write a number from 0 to 0.5")
}

pub(crate) fn level<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u8>, D::Error> {
    bounded(deserializer, |level| *level <= 5, "write a level from 1 to 5, or 0 for none")
}

pub(crate) fn trigger<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    bounded(
        deserializer,
        |ports| (1..=super::LONGEST_TRIGGER).contains(ports),
        "write a number from 1 to 100",
    )
}

pub(crate) fn slow_ports<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let bounds = "write a number of ports from 2 to 32, or 0 for no memory of slow scans";
    bounded(deserializer, |ports| *ports == 0 || (2..=32).contains(ports), bounds)
}

pub(crate) fn packets<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<[u32; 5]>, D::Error> {
    let bounds = "write five numbers of packets, each larger than the one before, at most 65535";
    let grow = |packets: &[u32; 5]| {
        packets.is_sorted_by(|one, next| one < next) && packets.iter().all(|&packets| packets <= 65_535)
    };
    bounded(deserializer, grow, bounds)
}

pub(crate) fn sweep_sources<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let bounds = "write a number of sources from 2 to 256, or 0 for no sweeps";
    bounded(deserializer, |sources| *sources == 0 || (2..=256).contains(sources), bounds)
}

pub(crate) fn ipv4_len<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u8>, D::Error> {
    bounded(deserializer, |len| (24..=31).contains(len), "write a length of an IPv4 prefix from 24 to 31")
}

pub(crate) fn ipv6_lens<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<u8>>, D::Error> {
    let fits = |lens: &Vec<u8>| {
        lens.len() <= 4 && lens.iter().all(|len| (48..=63).contains(len)) && lens.is_sorted_by(|a, b| a > b)
    };
    bounded(
        deserializer,
        fits,
        "write at most four lengths of IPv6 prefixes from 63 to 48, the longest first",
    )
}

pub(crate) fn sources<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    bounded(deserializer, |most| (2..=10_000_000).contains(most), "write a number from 2 to 10000000")
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

/// A network of a rule or of the list of the ignored: a prefix, or `@` and the name of a group of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Network {
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

/// A prefix of a group.
pub(crate) struct Member(pub(crate) Prefix);

impl<'de> Deserialize<'de> for Member {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ignore::parse_entry(&text).map(Member).map_err(de::Error::custom)
    }
}
