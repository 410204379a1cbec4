//! Counters of a stage, once a minute: what `event_type` "stats" is in Suricata's EVE JSON, but flat. The object `stats`
//! holds `stage` and numbers; psentry-trap adds what the machine is. It does not say what each counter means: that
//! stands in psentry-records(5).

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::{Common, Prefix};

/// The counters of a stage at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Stats {
    /// When, and on which machine.
    pub common: Common,
    /// Which stage, and its numbers.
    pub body: StatsBody,
}

/// The object `stats` of a record.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StatsBody {
    /// The stage that counts: "listen", "trap", "judge" or "block".
    pub stage: String,
    /// Each counter with its name, in the order in which they are written. A counter counts from the start of the
    /// stage, the judge's with `--state` from the beginning of that; a gauge, such as `sources`, is as of now.
    pub counters: Vec<(String, u64)>,
    /// What the machine is; only psentry-trap knows.
    pub machine: Option<Machine>,
    /// Which settings are wrong, so that their last good copies count; empty: none.
    pub wrong_settings: String,
}

/// The networks and ports of the machine on which a stage runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    /// The networks in which this machine has an address.
    pub own_networks: Vec<Prefix>,
    /// The networks behind this machine: of its bridges and veths, and those for which it is the gateway.
    pub inside_networks: Vec<Prefix>,
    /// The first and the last port that the kernel gives to clients (`ip_local_port_range` in ip-sysctl(7)).
    pub client_ports: (u16, u16),
}

const STAGE: &str = "stage";
const OWN_NETWORKS: &str = "own_networks";
const INSIDE_NETWORKS: &str = "inside_networks";
const CLIENT_PORTS: &str = "client_ports";

/// Counts the networks that did not fit into the line.
const UNLISTED_NETWORKS: &str = "unlisted_networks";

const WRONG_SETTINGS: &str = "wrong_settings";

/// How many characters of what is wrong are written, so that a line has room for all else.
const MAX_WRONG: usize = 400;

impl StatsBody {
    /// The counters of `stage`, in the order in which they are to be written.
    pub fn new<'a>(stage: &str, counters: impl IntoIterator<Item = (&'a str, u64)>) -> Self {
        let counters = counters.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        StatsBody { stage: stage.to_owned(), counters, ..StatsBody::default() }
    }

    /// The same with what is wrong with settings, each as a sentence.
    #[must_use]
    pub fn with_wrong_settings(self, sentences: &[String]) -> Self {
        StatsBody { wrong_settings: sentences.join("; ").chars().take(MAX_WRONG).collect(), ..self }
    }

    /// A counter by its name; 0 for one that the stage does not have.
    #[must_use]
    pub fn counter(&self, name: &str) -> u64 {
        self.counters.iter().find(|(held, _)| held == name).map_or(0, |&(_, value)| value)
    }

    /// Leaves one network out of the longer list and counts it in `unlisted_networks`; says whether there was one.
    pub(crate) fn leave_out_a_network(&mut self) -> bool {
        let Some(machine) = &mut self.machine else { return false };
        let longer = if machine.inside_networks.len() > machine.own_networks.len() {
            &mut machine.inside_networks
        } else {
            &mut machine.own_networks
        };
        let any = longer.pop().is_some();
        if any {
            match self.counters.iter_mut().find(|(name, _)| name == UNLISTED_NETWORKS) {
                Some((_, value)) => *value = value.saturating_add(1),
                None => self.counters.push((UNLISTED_NETWORKS.to_owned(), 1)),
            }
        }
        any
    }
}

impl Serialize for StatsBody {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(STAGE, &self.stage)?;
        let (left_out, counters): (Vec<_>, Vec<_>) =
            self.counters.iter().partition(|(name, _)| name == UNLISTED_NETWORKS);
        for (name, value) in counters {
            map.serialize_entry(name, value)?;
        }
        if let Some(machine) = &self.machine {
            map.serialize_entry(OWN_NETWORKS, &machine.own_networks)?;
            map.serialize_entry(INSIDE_NETWORKS, &machine.inside_networks)?;
            map.serialize_entry(CLIENT_PORTS, &machine.client_ports)?;
        }
        if !self.wrong_settings.is_empty() {
            map.serialize_entry(WRONG_SETTINGS, &self.wrong_settings)?;
        }
        // Behind the lists that it is about, whoever counts on after it was left out.
        for (name, value) in left_out {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// Reads an object with a `stage`. A field of a type that is not ours passes: Suricata nests objects here, and a later
/// psentry may add a field.
impl<'de> Deserialize<'de> for StatsBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(StatsVisitor)
    }
}

struct StatsVisitor;

impl<'de> Visitor<'de> for StatsVisitor {
    type Value = StatsBody;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object with a stage and numbers")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<StatsBody, A::Error> {
        let mut stage = None;
        let mut counters = Vec::new();
        let (mut own_networks, mut inside_networks, mut client_ports) = (None, None, None);
        let mut wrong_settings = String::new();
        while let Some(name) = map.next_key::<String>()? {
            match &*name {
                STAGE => stage = Some(map.next_value::<String>()?),
                OWN_NETWORKS => own_networks = networks(&map.next_value()?),
                INSIDE_NETWORKS => inside_networks = networks(&map.next_value()?),
                CLIENT_PORTS => client_ports = serde_json::from_value(map.next_value::<Value>()?).ok(),
                WRONG_SETTINGS => {
                    if let Value::String(wrong) = map.next_value()? {
                        wrong_settings = wrong;
                    }
                }
                // A line has at most 4096 bytes, so the list is short enough.
                _ => match map.next_value::<NumberOrElse>()? {
                    NumberOrElse::Number(value) => counters.push((name, value)),
                    NumberOrElse::Else(IgnoredAny) => {}
                },
            }
        }
        let stage = stage.ok_or_else(|| serde::de::Error::missing_field(STAGE))?;
        let machine = own_networks.zip(inside_networks).zip(client_ports);
        let machine = machine.map(|((own_networks, inside_networks), client_ports)| Machine {
            own_networks,
            inside_networks,
            client_ports,
        });
        Ok(StatsBody { stage, counters, machine, wrong_settings })
    }
}

/// A counter, or something that a later psentry or another tool writes.
#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrElse {
    Number(u64),
    Else(IgnoredAny),
}

/// The networks of a list; none where the list holds anything else.
fn networks(list: &Value) -> Option<Vec<Prefix>> {
    list.as_array()?.iter().map(|network| network.as_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use crate::{MAX_LINE, Record, Timestamp};

    use super::*;

    fn trap(networks: usize) -> Record {
        let network = |i: usize| format!("10.{}.{}.0/24", i / 256, i % 256).parse().unwrap();
        let machine = Machine {
            own_networks: (0..networks).map(network).collect(),
            inside_networks: vec!["2001:db8:7::/64".parse().unwrap()],
            client_ports: (32768, 60999),
        };
        let body =
            StatsBody { machine: Some(machine), ..StatsBody::new("trap", [("seen", 12), ("refused", 0)]) };
        Record::Stats(Stats { common: Common::at(Timestamp::from_secs(1_700_000_000).unwrap()), body })
    }

    fn encoded(record: &Record) -> String {
        let mut line = Vec::new();
        record.encode(&mut line).unwrap();
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn a_record_is_flat_and_in_a_fixed_order() {
        let line = encoded(&trap(1));
        assert_eq!(
            line,
            "{\"timestamp\":\"2023-11-14T22:13:20.000000Z\",\"event_type\":\"stats\",\"stats\":{\"stage\":\"trap\",\
             \"seen\":12,\"refused\":0,\"own_networks\":[\"10.0.0.0/24\"],\
             \"inside_networks\":[\"2001:db8:7::/64\"],\"client_ports\":[32768,60999]}}\n"
        );
        assert_eq!(Record::parse(&line), Ok(trap(1)));
    }

    #[test]
    fn wrong_settings_are_named_and_only_where_there_are_any() {
        let wrong = ["/etc/psentry/ignore, line 3: 'office.example.org' looks like a host name".to_owned()];
        let record = |wrong: &[String]| {
            let body = StatsBody::new("judge", [("records", 7)]).with_wrong_settings(wrong);
            Record::Stats(Stats { common: Common::at(Timestamp::from_secs(1_700_000_000).unwrap()), body })
        };
        let line = encoded(&record(&wrong));
        let ends = format!("\"records\":7,\"wrong_settings\":\"{}\"}}}}\n", wrong[0]);
        assert!(line.ends_with(&ends), "{line}");
        assert_eq!(Record::parse(&line), Ok(record(&wrong)));
        assert!(encoded(&record(&[])).ends_with("\"records\":7}}\n"));
        let long = vec!["\u{1b}".repeat(1000); 9];
        assert!(encoded(&record(&long)).len() <= MAX_LINE);
    }

    #[test]
    fn networks_that_do_not_fit_are_counted() {
        let record = trap(500);
        let line = encoded(&record);
        assert!(line.len() <= MAX_LINE, "{}", line.len());
        assert!(line.contains(r#","client_ports":[32768,60999],"unlisted_networks":"#), "{line}");
        let Ok(Record::Stats(Stats { body, .. })) = Record::parse(&line) else { panic!("{line}") };
        let listed = body.machine.as_ref().unwrap().own_networks.len();
        assert!(listed > 100, "{listed}");
        assert_eq!(body.counter(UNLISTED_NETWORKS), 500 - listed as u64);
    }

    #[test]
    fn what_others_write_as_stats_passes() {
        let of = |stats: &str| {
            Record::parse(&format!(
                r#"{{"timestamp":"2026-11-22T15:04:05Z","event_type":"stats","stats":{stats}}}"#
            ))
        };
        let other = Ok(Record::Other("stats".to_owned()));
        assert_eq!(of(r#"{"uptime":12,"capture":{"kernel_packets":7}}"#), other, "Suricata's");
        assert_eq!(of(r#"{"stage":7}"#), other);
        assert_eq!(of("[]"), other);
        let Ok(Record::Stats(stats)) = of(r#"{"stage":"listen","odd":{"a":1},"minus":-1,"open":3}"#) else {
            panic!("a stage makes it ours")
        };
        assert_eq!(stats.body, StatsBody::new("listen", [("open", 3)]));
    }
}
