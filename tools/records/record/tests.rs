//! What is written reads back equal; no input makes reading panic, stall or grow.

use proptest::prelude::*;

use super::write::whole;
use super::*;
use crate::{Action, Class, Kind, Machine, OutcomeResult, Prefix, Reader};

fn text() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), "[ -~]{0,40}"]
}

fn common() -> BoxedStrategy<Common> {
    let proto = prop::sample::select(vec![
        Proto::Tcp,
        Proto::Udp,
        Proto::Icmp,
        Proto::Icmpv6,
        Proto::Sctp,
        Proto::Number(47),
        Proto::Other,
    ]);
    let addr = || prop::option::of(any::<IpAddr>().prop_map(crate::canonical));
    let port = || prop::option::of(any::<u16>());
    let micros = 0..=Timestamp::MAX.micros();
    (micros, prop::option::of(text()), addr(), port(), addr(), port(), prop::option::of(proto))
        .prop_map(|(micros, host, src_ip, src_port, dest_ip, dest_port, proto)| Common {
            timestamp: Timestamp::from_micros(micros).unwrap(),
            host,
            src_ip,
            src_port,
            dest_ip,
            dest_port,
            proto,
        })
        .boxed()
}

fn kind() -> impl Strategy<Value = Kind> {
    use Kind::*;
    prop::sample::select(vec![Connect, Syn, Fin, Null, Xmas, Ack, Maimon, Window, Udp, Other])
}

fn prefix() -> impl Strategy<Value = Prefix> {
    (any::<IpAddr>(), 0..=128u8).prop_map(|(addr, len)| Prefix::around(addr, len))
}

fn record() -> BoxedStrategy<Record> {
    let some = || prop::option::of(text());
    let when =
        || prop::option::of((0..=Timestamp::MAX.micros()).prop_map(|m| Timestamp::from_micros(m).unwrap()));
    let proof = (any::<bool>(), any::<bool>(), some());
    let class = prop::option::of(prop::sample::select(vec![Class::Chatter, Class::Stray, Class::Probe]));
    let taken_for = (class, any::<[bool; 2]>(), prop::option::of(any::<u32>()));
    let probe = (common(), any::<IpAddr>(), some(), kind(), proof, taken_for, (1u32.., some())).prop_map(
        |(mut common, src, sensor, kind, proof, (class, [veiled, hidden], quarantine), (count, payload))| {
            common.src_ip = Some(crate::canonical(src));
            let (handshake, cookie, signature) = proof;
            let body = ProbeBody {
                sensor,
                kind,
                handshake,
                cookie,
                signature,
                class,
                veiled,
                hidden,
                quarantine,
                count,
                payload,
            };
            Record::Probe(Probe { common, body })
        },
    );
    let action = || prop::sample::select(vec![Action::Watch, Action::Block, Action::Unblock]);
    let grounds = (prop::option::of(any::<u8>()), prop::option::of(-1e9..1e9f64), some(), some());
    let evidence = (
        prop::option::of(any::<u32>()),
        prop::collection::vec(any::<u16>(), 0..20),
        prop::collection::vec(kind(), 0..5),
        prop::option::of(any::<u64>()),
        when(),
        when(),
        prop::option::of(any::<bool>()),
    );
    let verdict = (common(), action(), prefix(), prop::option::of(any::<u64>()), grounds, evidence).prop_map(
        |(common, action, scope, duration, (level, score, rule, reason), evidence)| {
            let (offence, ports, kinds, count, first, last, handshake) = evidence;
            let body = VerdictBody {
                duration,
                level,
                score,
                rule,
                reason,
                offence,
                ports,
                kinds,
                count,
                first,
                last,
                handshake,
                ..VerdictBody::new(action, scope)
            };
            Record::Verdict(Verdict { common, body })
        },
    );
    use OutcomeResult::*;
    let result = prop::sample::select(vec![Applied, Already, Refused, Failed, Released, Expired]);
    let shut = (prop::collection::vec(any::<u16>(), 0..9), prop::option::of(any::<bool>()));
    let details = (some(), some(), some(), when(), shut);
    let outcome = (common(), action(), prefix(), some(), result, when(), details).prop_map(
        |(
            common,
            action,
            scope,
            backend,
            result,
            until,
            (error, rule, reason, since, (ports, handshake)),
        )| {
            Record::Outcome(Outcome {
                common,
                body: OutcomeBody {
                    action,
                    scope,
                    backend,
                    result,
                    until,
                    error,
                    rule,
                    reason,
                    since,
                    ports,
                    handshake,
                },
            })
        },
    );
    let vouch = (common(), any::<IpAddr>(), some(), some(), prop::option::of(any::<u64>())).prop_map(
        |(mut common, src, user, method, duration)| {
            common.src_ip = Some(crate::canonical(src));
            Record::Vouch(Vouch { common, body: VouchBody { user, method, duration } })
        },
    );
    // As many of both as fit into a line: of more, some are left out, and would not read back equal.
    let networks = || prop::collection::vec(prefix(), 0..12);
    let machine = (networks(), networks(), any::<(u16, u16)>()).prop_map(
        |(own_networks, inside_networks, client_ports)| Machine {
            own_networks,
            inside_networks,
            client_ports,
        },
    );
    let counters = prop::collection::vec(("[a-z][a-z_]{2,20}", any::<u64>()), 0..30);
    let stats = (common(), text(), counters, prop::option::of(machine)).prop_map(
        |(common, stage, counters, machine)| {
            let taken = ["stage", "own_networks", "inside_networks", "client_ports"];
            let counters = counters.into_iter().filter(|(name, _)| !taken.contains(&&**name)).collect();
            Record::Stats(Stats {
                common,
                body: StatsBody { stage, counters, machine, ..StatsBody::default() },
            })
        },
    );
    prop_oneof![probe.boxed(), verdict.boxed(), outcome.boxed(), vouch.boxed(), stats.boxed()].boxed()
}

proptest! {
    // A counterexample becomes a test by name, not a file of seeds.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_reads_back_equal(record in record()) {
        let mut line = Vec::new();
        record.encode(&mut line).unwrap();
        prop_assert!(line.len() <= MAX_LINE && line.ends_with(b"\n"));
        prop_assert_eq!(line.iter().filter(|&&byte| byte == b'\n').count(), 1);
        let read = Record::parse(std::str::from_utf8(&line).unwrap()).unwrap();
        prop_assert_eq!(read, record);
    }

    #[test]
    fn no_input_makes_the_reader_panic_or_stall(input in prop::collection::vec(any::<u8>(), 0..20_000)) {
        let newlines = input.iter().filter(|&&byte| byte == b'\n').count();
        let mut reader = Reader::new(&input[..]);
        let mut items = 0;
        while reader.next_item().unwrap().is_some() {
            items += 1;
        }
        prop_assert!(items <= newlines + 1);
    }

    #[test]
    fn damaged_records_never_panic(record in record(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut line = Vec::new();
        record.encode(&mut line).unwrap();
        let at = at.index(line.len());
        line[at] = byte;
        let mut reader = Reader::new(&line[..]);
        while reader.next_item().unwrap().is_some() {}
    }
}

#[test]
fn long_texts_are_shortened_to_one_line() {
    let mut common = Common::at(Timestamp::from_micros(0).unwrap());
    common.src_ip = Some("192.0.2.7".parse().unwrap());
    for payload in
        ["x".repeat(10_000), "\u{1}".repeat(10_000), "\u{1F600}".repeat(5_000), "\\x00".repeat(4_000)]
    {
        let body = ProbeBody {
            sensor: Some("listen".into()),
            handshake: true,
            payload: Some(payload.clone()),
            ..ProbeBody::new(Kind::Connect)
        };
        let mut line = Vec::new();
        Record::Probe(Probe { common: common.clone(), body }).encode(&mut line).unwrap();
        assert!(line.len() <= MAX_LINE && line.len() > MAX_LINE - 100, "{} bytes", line.len());
        let Ok(Record::Probe(probe)) = Record::parse(std::str::from_utf8(&line).unwrap()) else { panic!() };
        assert!(payload.starts_with(&probe.body.payload.unwrap()));
    }
}

/// A payload that is cut is the escape of fewer bytes, whatever the length of what is around it.
#[test]
fn a_payload_is_never_cut_within_an_escape() {
    for bytes in [&[0xff; 4096][..], &[b'\\'; 8192], &[b'"'; 8192], &b"\r\n\t'x\0".repeat(1500)] {
        for name in 0..8 {
            let mut common = Common::at(Timestamp::from_micros(0).unwrap());
            common.src_ip = Some("192.0.2.7".parse().unwrap());
            common.host = Some("h".repeat(name));
            let payload = Some(bytes.escape_ascii().to_string());
            let body = ProbeBody { payload, ..ProbeBody::new(Kind::Connect) };
            let mut line = Vec::new();
            Record::Probe(Probe { common, body }).encode(&mut line).unwrap();
            assert!(line.len() <= MAX_LINE && line.len() > MAX_LINE - 100, "{} bytes", line.len());
            let Ok(Record::Probe(probe)) = Record::parse(std::str::from_utf8(&line).unwrap()) else {
                panic!()
            };
            let payload = probe.body.payload.unwrap();
            let fits = |count: usize| bytes[..count].escape_ascii().to_string() == payload;
            assert!((1..bytes.len()).any(fits), "{payload}");
        }
    }
}

#[test]
fn whole_escapes_are_distinguished_from_cut_ones() {
    for (text, want) in [("", 0), ("a", 1), (r"\n", 2), (r"a\", 1), (r"\\", 2), (r"\\\", 2), (r"\x", 0)] {
        assert_eq!(whole(text), want, "{text}");
    }
    assert_eq!((whole(r"é\xf"), whole(r"\xff"), whole(r"\\xf"), whole("\\é")), (2, 4, 4, 3));
}

/// What is usual is not written, so that the commonest records stay short and older ones read right.
#[test]
fn cookie_and_signature_are_written_only_where_there_are_any() {
    let mut common = Common::at(Timestamp::from_micros(0).unwrap());
    common.src_ip = Some("192.0.2.7".parse().unwrap());
    let plain = ProbeBody { handshake: true, ..ProbeBody::new(Kind::Connect) };
    let weak = ProbeBody { cookie: true, signature: Some("masscan".to_owned()), ..plain.clone() };
    for (body, want) in [
        (plain, r#""probe":{"kind":"connect","handshake":true}}"#),
        (weak, r#""probe":{"kind":"connect","handshake":true,"cookie":true,"signature":"masscan"}}"#),
    ] {
        let mut line = Vec::new();
        Record::Probe(Probe { common: common.clone(), body }).encode(&mut line).unwrap();
        let line = std::str::from_utf8(&line).unwrap();
        assert!(line.trim_end().ends_with(want), "{line}");
    }
}

#[test]
fn class_veil_hiding_and_quarantine_come_before_the_count() {
    let mut common = Common::at(Timestamp::from_micros(0).unwrap());
    common.src_ip = Some("192.0.2.7".parse().unwrap());
    let body = ProbeBody {
        signature: Some("nmap".to_owned()),
        class: Some(Class::Probe),
        veiled: true,
        hidden: true,
        quarantine: Some(30),
        count: 2,
        ..ProbeBody::new(Kind::Syn)
    };
    let mut line = Vec::new();
    Record::Probe(Probe { common, body }).encode(&mut line).unwrap();
    let want =
        r#""signature":"nmap","class":"probe","veiled":true,"hidden":true,"quarantine":30,"count":2}}"#;
    assert!(std::str::from_utf8(&line).unwrap().trim_end().ends_with(want));
}

/// A class that a later version names is a probe.
#[test]
fn an_unknown_class_is_a_probe_and_no_class_is_none() {
    for (text, want) in [
        (r#"{"class":"stray"}"#, Some(Class::Stray)),
        (r#"{"class":"chatter"}"#, Some(Class::Chatter)),
        (r#"{"class":"worm"}"#, Some(Class::Probe)),
        ("{}", None),
    ] {
        let line = format!(
            r#"{{"timestamp":"2026-11-22T15:04:05Z","event_type":"probe","src_ip":"192.0.2.7","probe":{text}}}"#
        );
        let Ok(Record::Probe(probe)) = Record::parse(&line) else { panic!("{line}") };
        assert_eq!(probe.body.class, want, "{line}");
    }
}

#[test]
fn a_long_signature_is_shortened_like_any_text() {
    let mut common = Common::at(Timestamp::from_micros(0).unwrap());
    common.src_ip = Some("192.0.2.7".parse().unwrap());
    let body = ProbeBody { signature: Some("x".repeat(10_000)), ..ProbeBody::new(Kind::Syn) };
    let mut line = Vec::new();
    Record::Probe(Probe { common, body }).encode(&mut line).unwrap();
    assert!(line.len() <= MAX_LINE && line.len() > MAX_LINE - 100, "{} bytes", line.len());
}

#[test]
fn other_tools_events_pass_and_broken_ones_of_ours_do_not() {
    for line in [
        r#"{"timestamp":"2026-11-22T15:04:05.1+0100","event_type":"alert","src_ip":"192.0.2.7","verdict":{"action":"drop"}}"#,
        r#"{"event_type":"stats","uptime":5}"#,
    ] {
        assert!(matches!(Record::parse(line), Ok(Record::Other(_))), "{line}");
    }
    for line in [
        "",
        "null",
        "[]",
        "{}",
        r#"{"event_type":"probe"}"#,
        r#"{"timestamp":"2026-11-22T15:04:05Z","event_type":"probe","probe":{}}"#,
        r#"{"timestamp":"2026-11-22T15:04:05Z","event_type":"probe","src_ip":"192.0.2.7"}"#,
        r#"{"timestamp":"0000-11-22T15:04:05Z","event_type":"probe","src_ip":"192.0.2.7","probe":{}}"#,
        r#"{"timestamp":"2026-11-22T15:04:05Z","event_type":"probe","src_ip":"fe80::1%eth0","probe":{}}"#,
        r#"{"timestamp":"2026-11-22T15:04:05Z","event_type":"probe","src_ip":"192.0.2.7","dest_port":-1,"probe":{}}"#,
        r#"{"timestamp":"2026-11-22T15:04:05Z","event_type":"vouch","vouch":{"user":"alice"}}"#,
        r#"{"timestamp":"2026-11-22T15:04:05Z","event_type":"vouch","src_ip":"192.0.2.7"}"#,
        r#"{"timestamp":"2026-11-22T15:04:05Z","event_type":"verdict","verdict":{"action":"nuke","scope":"::/0"}}"#,
    ] {
        assert!(Record::parse(line).is_err(), "{line}");
    }
}

#[test]
fn unknown_fields_kinds_and_transports_pass() {
    let line = r#"{"x":[1],"event_type":"probe","src_ip":"::ffff:192.0.2.7","proto":"quic",
        "timestamp":"2026-11-22T15:04:05Z","probe":{"kind":"idle","later":{}}}"#;
    let Ok(Record::Probe(probe)) = Record::parse(line) else { panic!() };
    assert_eq!(probe.common.src_ip, Some("192.0.2.7".parse().unwrap()));
    assert_eq!((probe.common.proto, probe.body.kind, probe.body.count), (Some(Proto::Other), Kind::Other, 1));
}

#[test]
fn a_mistake_names_the_field_that_has_it() {
    let said = |more: &str| {
        let line = format!("{{\"timestamp\":\"2026-11-22T15:04:05Z\",\"event_type\":\"verdict\"{more}");
        Record::parse(&line).unwrap_err().to_string()
    };
    for (more, want) in [
        (",\"dest_port\":65536}", "dest_port: invalid value: integer `65536`, expected u16"),
        (",\"src_ip\":\"nowhere\"}", "src_ip: "),
        (",\"verdict\":{\"action\":\"stop\"}}", "verdict.action: unknown variant `stop`"),
        (",\"verdict\":{\"action\":\"block\"}}", "verdict: missing field `scope`"),
        (
            ",\"verdict\":{\"action\":\"block\",\"scope\":\"192.0.2.7\",\"ports\":[22,\"ssh\"]}}",
            "verdict.ports[1]: invalid type: string \"ssh\", expected u16",
        ),
        ("", "EOF while parsing"),
        ("} x", "trailing characters"),
    ] {
        assert!(said(more).starts_with(want), "{}", said(more));
    }
}
