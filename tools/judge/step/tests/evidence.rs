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

/// A tool that gives up within a second and comes again touches veiled ports for days, and nothing else.
#[test]
fn the_veil_weighs_only_beside_other_evidence() {
    let veiled = |n: u16| {
        let Record::Probe(mut probe) = probe(u64::from(n), "203.0.113.7", 1000 + n, Kind::Syn) else {
            panic!()
        };
        (probe.body.class, probe.body.veiled) = (Some(psentry_records::Class::Stray), true);
        Record::Probe(probe)
    };
    let several: Vec<Record> = (0..500).map(veiled).collect();
    assert_eq!(said(&policy(), &several), []);
    let decoy = connects("203.0.113.7", &[(3, 23)]);
    assert_eq!(said(&policy(), &decoy), []);
    let both: Vec<Record> = several.into_iter().take(3).chain(decoy).collect();
    assert_eq!(said(&policy(), &both).len(), 1);
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

/// A packet of a protocol without ports.
fn portless(secs: u64, number: u8) -> Record {
    let Record::Probe(mut probe) = probe(secs, "192.0.2.7", 0, Kind::Other) else { panic!() };
    (probe.common.dest_port, probe.common.proto) = (None, Some(Proto::from_number(number)));
    probe.body.sensor = Some("trap".to_owned());
    Record::Probe(probe)
}

#[test]
fn ten_protocols_convict_and_the_few_of_a_peer_do_not() {
    // As nmap -sO asks for them: those with ports, ICMP and IGMP among them.
    let scan =
        |numbers: &[u8]| -> Vec<Record> { numbers.iter().map(|&number| portless(1, number)).collect() };
    let order = [200, 47, 1, 131, 89, 2, 250, 12, 99, 50, 58, 4, 140];
    assert_eq!(words(&policy(), &scan(&order[..12])), [""; 0], "nine that count");
    let said = said(&policy(), &scan(&order));
    assert_eq!((said.len(), said[0].handshake, said[0].duration), (1, Some(false), Some(60)));
    let want = "It touched 10 different protocols (protocol 200, protocol 47, protocol 131, protocol 89, protocol 250, 5 more) \
                by packets that could be forged; at most one innocent source in 1000 does that.";
    assert_eq!(said[0].reason.as_deref(), Some(want));
    // Tunnels and routers, for a long time; whatever counts ports counts none of them.
    let peer: Vec<Record> =
        (0..600u64).map(|n| portless(n, [47, 50, 51, 4, 41, 89, 103, 112][n as usize % 8])).collect();
    for text in ["", "[test]\ntrigger = 1\n", "[test]\ntouches = 5\n", "[slow]\nports = 2\n"] {
        assert_eq!(words(&policy_of(text), &peer), [""; 0], "{text}");
    }
    // A rule says what it says of one protocol, or of whatever comes from a network.
    let named = |text: &str, story: &[Record]| words(&policy_of(text), story);
    assert_eq!(
        named("[[rule]]\nname = \"p\"\nproto = \"103\"\nconvict = true\n", &peer[..8]),
        ["block 192.0.2.7/32 p"]
    );
    assert_eq!(
        named("[[rule]]\nname = \"p\"\nproto = 103\nweight = 2.0\n[test]\ntrigger = 1\n", &peer[..8]).len(),
        1
    );
    let quiet = "[[rule]]\nname = \"n\"\nnetworks = [\"192.0.2.0/24\"]\nignore = true\n";
    assert_eq!(named(quiet, &scan(&order)), [""; 0]);
}

#[test]
fn ports_that_worms_know_weigh_more_where_nothing_is_served() {
    let src = "192.0.2.7";
    let syn = |port, class| {
        let Record::Probe(mut probe) = probe(1, src, port, Kind::Syn) else { panic!() };
        (probe.body.sensor, probe.body.class) = (Some("trap".to_owned()), class);
        Record::Probe(probe)
    };
    let story = |ports: &[u16], class| ports.iter().map(|&port| syn(port, class)).collect::<Vec<_>>();
    use psentry_records::Class::{Probe, Stray};
    let convicts = |ports: &[u16], class| !said(&policy(), &story(ports, class)).is_empty();
    assert!(convicts(&[23, 2323], Some(Probe)) && convicts(&[5555, 37_215], Some(Probe)));
    assert!(!convicts(&[23, 23, 23], Some(Probe)), "one port is one contact");
    assert!(!convicts(&[23, 8081], Some(Probe)), "a closed port beside one");
    assert!(!convicts(&[23, 2323, 5555, 7547, 37_215], Some(Stray)), "where the service is only restarting");
    // A datagram to the same number is another thing.
    let udp = [23, 2323].map(|port| {
        let Record::Probe(mut probe) = probe(1, src, port, Kind::Udp) else { panic!() };
        probe.body.sensor = Some("trap".to_owned());
        Record::Probe(probe)
    });
    assert_eq!(said(&policy(), &udp).len(), 0);
    assert_eq!(said(&policy_of("[evidence]\nworm = 20\n"), &story(&[23, 2323], Some(Probe))).len(), 0);
}

#[test]
fn many_touches_of_one_port_convict_if_the_policy_says_so() {
    let policy = policy_of("[test]\ntouches = 5\n");
    let src = "192.0.2.7";
    let touches = |secs: &[u64]| connects(src, &secs.iter().map(|&secs| (secs, 3389)).collect::<Vec<_>>());
    let said = said(&policy, &touches(&[0, 1, 2, 3, 4, 5, 6]));
    assert_eq!(said.len(), 1);
    assert_eq!(
        (said[0].rule.as_deref(), said[0].count, said[0].score),
        (Some("touches"), Some(5), Some(5.0))
    );
    let want = "It touched 1 decoy (3389/tcp) with completed handshakes; 5 touches of one port convict.";
    assert_eq!((said[0].reason.as_deref(), said[0].handshake), (Some(want), Some(true)));
    assert_eq!(words(&super::policy(), &touches(&[0, 1, 2, 3, 4, 5, 6])), [""; 0], "off by default");
    assert_eq!(words(&policy, &touches(&[0, 1, 2, 3])), [""; 0]);
    // A pause longer than the window, and the count begins again; shorter ones do not matter.
    assert_eq!(words(&policy, &touches(&[0, 1000, 2000, 3000, 4000, 5000])), [""; 0]);
    assert_eq!(words(&policy, &touches(&[0, 800, 1600, 2400, 3200])).len(), 1);
    assert_eq!(words(&policy, &touches(&[0, 1, 2, 3, 2000, 2001, 2002, 2003])), [""; 0]);
    // What a record says that it stands for is added, and strays are none.
    let folded = |count: u32, class: Option<psentry_records::Class>| {
        let Record::Probe(mut probe) = probe(9, src, 161, Kind::Udp) else { panic!() };
        (probe.body.count, probe.body.class) = (count, class);
        Record::Probe(probe)
    };
    assert_eq!(words(&policy, &[folded(5, None)]), ["block 192.0.2.7/32 touches"]);
    assert_eq!(words(&policy, &[folded(3, None), folded(2, None)]).len(), 1);
    assert_eq!(words(&policy, &[folded(99, Some(psentry_records::Class::Stray))]), [""; 0]);
    // A prefix of a network that is given more, gets more.
    let shared =
        "[test]\ntouches = 5\n[[rule]]\nname = \"n\"\nnetworks = [\"192.0.2.0/24\"]\nthreshold = 2.0\n";
    assert_eq!(words(&policy_of(shared), &touches(&[0, 1, 2, 3, 4, 5, 6, 7, 8])), [""; 0]);
}
