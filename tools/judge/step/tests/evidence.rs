//! What counts, how much, and by which rule.

use psentry_records::{Kind, Proto};

use super::*;

/// How many different ports, by packets of one kind, it takes to convict.
fn ports_until_convicted(policy: &Policy, change: impl Fn(&mut Probe)) -> Option<u16> {
    (1..30u16).find(|&ports| {
        let story: Vec<Record> = (0..ports)
            .map(|port| {
                let Record::Probe(mut probe) = probe(port.into(), "192.0.2.7", 1000 + port, Kind::Other)
                else {
                    panic!()
                };
                change(&mut probe);
                Record::Probe(probe)
            })
            .collect();
        !said(policy, &story).is_empty()
    })
}

#[test]
fn each_kind_of_evidence_has_its_weight() {
    let policy = policy();
    let kind = |kind| ports_until_convicted(&policy, move |probe| probe.body.kind = kind);
    assert_eq!(kind(Kind::Other), Some(2));
    assert_eq!(kind(Kind::Udp), Some(2));
    assert_eq!([Kind::Fin, Kind::Null, Kind::Xmas].map(kind), [Some(2); 3]);
    assert_eq!(kind(Kind::Syn), Some(3));
    assert_eq!([Kind::Ack, Kind::Maimon, Kind::Window].map(kind), [Some(6); 3]);
    let signed = ports_until_convicted(&policy, |probe| {
        (probe.body.kind, probe.body.signature) = (Kind::Syn, Some("masscan".to_owned()));
    });
    assert_eq!(signed, Some(2), "a recognized scanner needs one less");
    let closed = ports_until_convicted(&policy, |probe| {
        (probe.body.kind, probe.body.sensor) = (Kind::Udp, Some("trap".to_owned()));
    });
    assert_eq!(closed, Some(3), "a datagram to a port that merely is closed");
    let mirage = ports_until_convicted(&policy, |probe| {
        (probe.body.kind, probe.body.sensor) = (Kind::Connect, Some("mirage".to_owned()));
        probe.body.handshake = true;
    });
    assert_eq!(mirage, Some(3), "a handshake with what stands for all closed ports");
}

#[test]
fn one_port_is_one_contact_a_machine_whatever_the_address() {
    let sweep = |kind: Kind, times: u64, ports: &[u16], machines: bool| -> Vec<Record> {
        let touches = (0..times).flat_map(|n| ports.iter().map(move |&port| (n, port)));
        touches
            .map(|(n, port)| {
                let Record::Probe(mut probe) = probe(n, "192.0.2.7", port, kind) else { panic!() };
                probe.common.dest_ip = Some(std::net::Ipv4Addr::from(0xc633_6400 + n as u32).into());
                probe.common.host = machines.then(|| format!("guard-{n}"));
                Record::Probe(probe)
            })
            .collect()
    };
    // A machine with two addresses, a machine with a whole network.
    assert_eq!(words(&policy(), &sweep(Kind::Syn, 2, &[80, 6379], false)), [""; 0]);
    assert_eq!(words(&policy(), &sweep(Kind::Connect, 254, &[22], false)), [""; 0]);
    // Who holds a network of decoys says so.
    let net = "[[rule]]\nname = \"a network of decoys\"\nthreshold = 0.6\n";
    assert_eq!(words(&policy_of(net), &sweep(Kind::Connect, 1, &[22], false)).len(), 1);
    // Many machines are asked one after another: each further one weighs half.
    assert_eq!(words(&policy(), &sweep(Kind::Connect, 2, &[22], true)), [""; 0]);
    let said = said(&policy(), &sweep(Kind::Connect, 3, &[22], true));
    let want = "It touched 1 decoy (22/tcp) on several machines with completed handshakes; \
                at most one innocent source in 1000 does that.";
    assert_eq!(said[0].reason.as_deref(), Some(want));
    assert_eq!(words(&policy(), &sweep(Kind::Syn, 3, &[22], true)), [""; 0]);
    assert_eq!(words(&policy(), &sweep(Kind::Syn, 4, &[22], true)).len(), 1);
}

#[test]
fn what_the_sensor_took_a_packet_for_is_believed() {
    use psentry_records::Class;
    let policy = policy();
    let taken = |kind, class| {
        ports_until_convicted(&policy, move |probe| {
            (probe.body.kind, probe.body.class) = (kind, Some(class));
            probe.body.sensor = Some("trap".to_owned());
        })
    };
    // Data of a connection that nothing remembers is ACK and PSH, which no kind names.
    assert_eq!(taken(Kind::Other, Class::Stray), Some(6));
    assert_eq!(taken(Kind::Syn, Class::Stray), Some(6));
    assert_eq!(taken(Kind::Udp, Class::Stray), Some(6));
    assert_eq!(taken(Kind::Udp, Class::Chatter), None);
    assert_eq!(taken(Kind::Syn, Class::Probe), Some(3));
    assert_eq!(taken(Kind::Ack, Class::Probe), Some(3), "at a worm's port, for example");
    // No honest peer sends these, whatever they were taken for.
    assert_eq!(taken(Kind::Fin, Class::Stray), Some(2));
    let handshake = ports_until_convicted(&policy, |probe| {
        (probe.body.kind, probe.body.handshake, probe.body.class) = (Kind::Connect, true, Some(Class::Stray));
    });
    assert_eq!(handshake, Some(6));
}

#[test]
fn what_may_be_an_answer_counts_nothing() {
    let policy = policy();
    let from = |kind, proto, src_port, first: u16| {
        ports_until_convicted(&policy, move |probe| {
            (probe.body.kind, probe.common.proto) = (kind, Some(proto));
            probe.common.src_port = Some(src_port);
            probe.common.dest_port = probe.common.dest_port.map(|port| port - 1000 + first);
        })
    };
    // The late end of connections to a web server, and late answers of a name server.
    assert_eq!(from(Kind::Maimon, Proto::Tcp, 443, 40_000), None);
    assert_eq!(from(Kind::Udp, Proto::Udp, 53, 40_000), None);
    // Data of a database, for connections that a power loss ended; not from a port that a scanner is lent.
    assert_eq!(from(Kind::Ack, Proto::Tcp, 5432, 40_000), None);
    assert_eq!(from(Kind::Ack, Proto::Tcp, 50_000, 40_000), Some(6));
    assert_eq!(from(Kind::Udp, Proto::Udp, 5432, 40_000), Some(2));
    // A scan from port 53 still is one where services are.
    assert_eq!(from(Kind::Udp, Proto::Udp, 53, 1), Some(2));
    assert_eq!(from(Kind::Ack, Proto::Tcp, 443, 1), Some(6));
    assert_eq!(from(Kind::Syn, Proto::Tcp, 443, 40_000), Some(3));
}

#[test]
fn one_handshake_by_cookie_proves_nothing_and_two_do() {
    let cookie = |secs, port| {
        let Record::Probe(mut probe) = probe(secs, "192.0.2.7", port, Kind::Connect) else { panic!() };
        probe.body.cookie = true;
        Record::Probe(probe)
    };
    let policy = policy_of("[test]\ntrigger = 1\n");
    assert!(!verdicts(&policy, &[cookie(0, 23)])[0].3);
    assert!(verdicts(&policy, &[cookie(0, 23), cookie(1, 24)])[1].3);
    assert!(verdicts(&policy, &connects("192.0.2.7", &[(0, 23)]))[0].3);
}

#[test]
fn a_port_a_day_convicts_after_many_days() {
    let story = |ports: u64| -> Vec<Record> {
        (0..ports).map(|n| probe(n * 86_400, "192.0.2.7", 1000 + n as u16, Kind::Connect)).collect()
    };
    assert_eq!(words(&policy(), &story(9)), [""; 0]);
    assert_eq!(words(&policy(), &story(10)), ["block 192.0.2.7/32 slow"]);
    let said = said(&policy(), &story(10));
    assert!(
        said[0].reason.as_deref().unwrap().ends_with("10 different ones within 30days convict."),
        "{said:?}"
    );
    assert_eq!(said[0].ports.len(), 10);
    // A port in four days stays below it: each is forgotten after thirty days.
    let slower: Vec<Record> =
        (0..40u64).map(|n| probe(n * 4 * 86_400, "192.0.2.7", 1000 + n as u16, Kind::Connect)).collect();
    assert_eq!(words(&policy(), &slower), [""; 0]);
}

#[test]
fn rules_convict_ignore_weigh_and_ask_for_handshakes() {
    let policy = policy_of(
        r#"
        [groups]
        phones = ["100.64.0.0/10"]
        [[rule]]
        name = "telnet"
        ports = [23, "2323-2325"]
        proto = "tcp"
        convict = true
        [[rule]]
        name = "moved"
        ports = [8080]
        ignore = true
        [[rule]]
        name = "shared"
        networks = ["@phones"]
        threshold = 3.0
        [[rule]]
        name = "lan"
        networks = ["10.0.0.0/8"]
        handshake = true
        weight = 0.5
        "#,
    );
    let one = |src, port, kind| words(&policy, &[probe(0, src, port, kind)]);
    assert_eq!(one("192.0.2.7", 2324, Kind::Connect), ["block 192.0.2.7/32 telnet"]);
    assert_eq!(one("192.0.2.7", 2326, Kind::Connect), [""; 0]);
    assert_eq!(one("192.0.2.7", 23, Kind::Udp), [""; 0]);
    assert_eq!(verdicts(&policy, &[probe(0, "192.0.2.7", 23, Kind::Syn)])[0].1, 60, "a forged one is brief");
    assert_eq!(one("10.1.2.3", 23, Kind::Syn), [""; 0], "there only handshakes count");
    let many = |src, ports: u16, kind| -> Vec<Record> {
        (0..ports).map(|n| probe(n.into(), src, 1000 + n, kind)).collect()
    };
    assert_eq!(words(&policy, &connects("192.0.2.7", &[(0, 8080), (1, 445)])), [""; 0]);
    assert_eq!(words(&policy, &many("100.64.1.1", 4, Kind::Connect)), [""; 0]);
    assert_eq!(words(&policy, &many("100.64.1.1", 5, Kind::Connect)).len(), 1);
    assert_eq!(words(&policy, &many("10.1.2.3", 3, Kind::Connect)), [""; 0]);
    assert_eq!(words(&policy, &many("10.1.2.3", 4, Kind::Connect)).len(), 1);
    assert_eq!(words(&policy, &many("10.1.2.3", 30, Kind::Udp)), [""; 0]);
}

#[test]
fn without_a_port_there_is_no_evidence_unless_a_rule_names_the_protocol() {
    let ping = |secs, proto: Proto| {
        let Record::Probe(mut probe) = probe(secs, "192.0.2.7", 0, Kind::Other) else { panic!() };
        (probe.common.dest_port, probe.common.proto) = (None, Some(proto));
        Record::Probe(probe)
    };
    let all = [Proto::Icmp, Proto::Icmpv6, Proto::Igmp, Proto::Sctp, Proto::Other, Proto::Tcp];
    let story: Vec<Record> = all.into_iter().flat_map(|proto| [0, 1, 2].map(|n| ping(n, proto))).collect();
    assert_eq!(words(&policy(), &story), [""; 0]);
    let named = |text: &str| words(&policy_of(text), &story);
    assert_eq!(named("[[rule]]\nname = \"p\"\nproto = \"igmp\"\nconvict = true\n"), ["block 192.0.2.7/32 p"]);
    assert_eq!(
        named("[[rule]]\nname = \"p\"\nproto = \"icmpv6\"\nweight = 2.0\n"),
        ["block 192.0.2.7/32 sequential"]
    );
    // One that is for all of a network says nothing of pings.
    assert_eq!(named("[[rule]]\nname = \"n\"\nnetworks = [\"192.0.2.0/24\"]\nconvict = true\n"), [""; 0]);
    assert_eq!(named("[[rule]]\nname = \"p\"\nproto = \"icmp\"\nhandshake = true\n"), [""; 0]);
}
