//! The decision, told as stories: who touched what when, and what was said of it.

use proptest::prelude::*;
use psentry_records::{Kind, ProbeBody, Proto, VouchBody};

use super::*;
use crate::PolicyFlags;
use crate::policy::tests::policy_of;

pub(super) fn policy() -> Policy {
    Policy::from_flags(&PolicyFlags::default()).unwrap()
}

pub(super) fn at(secs: u64) -> Timestamp {
    Timestamp::from_secs(1_700_000_000 + secs).unwrap()
}

pub(super) fn probe(secs: u64, src: &str, port: u16, kind: Kind) -> Record {
    let mut common = Common::at(at(secs));
    common.src_ip = Some(src.parse().unwrap());
    common.dest_port = Some(port);
    common.proto = Some(if kind == Kind::Udp { Proto::Udp } else { Proto::Tcp });
    Record::Probe(Probe {
        common,
        body: ProbeBody { handshake: kind == Kind::Connect, ..ProbeBody::new(kind) },
    })
}

/// All verdicts of a story.
fn said(policy: &Policy, story: &[Record]) -> Vec<VerdictBody> {
    let mut state = State::new(policy.max_sources);
    let mut verdicts = Vec::new();
    story.iter().for_each(|record| step(&mut state, policy, record, &mut verdicts));
    verdicts.into_iter().map(|verdict| verdict.body).collect()
}

/// The verdicts of a story, each as (scope, seconds, offence, proven).
pub(super) fn verdicts(policy: &Policy, story: &[Record]) -> Vec<(String, u64, u32, bool)> {
    let short = |body: VerdictBody| {
        (body.scope.to_string(), body.duration.unwrap(), body.offence.unwrap(), body.handshake.unwrap())
    };
    said(policy, story).into_iter().map(short).collect()
}

/// The rule and action of each.
pub(super) fn words(policy: &Policy, story: &[Record]) -> Vec<String> {
    said(policy, story)
        .iter()
        .map(|body| format!("{} {} {}", body.action.name(), body.scope, body.rule.as_deref().unwrap()))
        .collect()
}

pub(super) fn connects(src: &str, touches: &[(u64, u16)]) -> Vec<Record> {
    touches.iter().map(|&(secs, port)| probe(secs, src, port, Kind::Connect)).collect()
}

#[test]
fn two_different_decoys_convict_and_one_touched_twice_does_not() {
    let policy = policy();
    assert_eq!(verdicts(&policy, &connects("192.0.2.7", &[(0, 23), (1, 23), (2, 23)])), []);
    let said = verdicts(&policy, &connects("192.0.2.7", &[(0, 23), (1, 445)]));
    assert_eq!(said, [("192.0.2.7/32".to_owned(), 3600, 1, true)]);
}

#[test]
fn the_same_number_on_two_protocols_is_two_ports() {
    let story = [probe(0, "192.0.2.7", 161, Kind::Connect), probe(1, "192.0.2.7", 161, Kind::Udp)];
    assert_eq!(verdicts(&policy(), &story), [("192.0.2.7/32".to_owned(), 60, 1, false)]);
}

#[test]
fn touches_further_apart_than_the_window_do_not_add_up() {
    assert_eq!(verdicts(&policy(), &connects("192.0.2.7", &[(0, 23), (901, 445)])), []);
    assert_eq!(verdicts(&policy(), &connects("192.0.2.7", &[(0, 23), (900, 445)])).len(), 1);
    // Late ones count by their own time, in either order.
    assert_eq!(verdicts(&policy(), &connects("192.0.2.7", &[(901, 23), (0, 445)])), []);
    assert_eq!(verdicts(&policy(), &connects("192.0.2.7", &[(900, 23), (0, 445)])).len(), 1);
}

#[test]
fn a_conviction_is_said_once_and_again_only_after_it_ended() {
    let story = connects("192.0.2.7", &[(0, 1), (1, 2), (2, 3), (3, 4), (3601, 5), (3602, 6)]);
    let said = verdicts(&policy(), &story);
    assert_eq!(said.iter().map(|verdict| verdict.2).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn what_could_be_forged_is_blocked_briefly_until_handshakes_prove_it() {
    let src = "192.0.2.7";
    let story = [
        probe(0, src, 1, Kind::Udp),
        probe(1, src, 2, Kind::Udp),
        probe(2, src, 3, Kind::Udp),
        probe(3, src, 4, Kind::Connect),
        probe(4, src, 5, Kind::Connect),
    ];
    let want = [("192.0.2.7/32".to_owned(), 60, 1, false), ("192.0.2.7/32".to_owned(), 3600, 1, true)];
    assert_eq!(verdicts(&policy(), &story), want);
}

#[test]
fn a_flood_of_forged_ports_hides_no_proof() {
    let src = "192.0.2.7";
    let mut story: Vec<Record> = (0..200).map(|port| probe(0, src, port, Kind::Udp)).collect();
    story.push(probe(1, src, 1000, Kind::Connect));
    story.push(probe(2, src, 1001, Kind::Connect));
    let said = verdicts(&policy(), &story);
    assert_eq!(said.last().map(|verdict| (verdict.1, verdict.3)), Some((3600, true)));
}

#[test]
fn ipv6_is_counted_by_64_bits_and_narrowly_where_an_ignored_address_would_be_hit() {
    let mut story = connects("2001:db8::1", &[(0, 23)]);
    story.extend(connects("2001:db8::2", &[(1, 445)]));
    assert_eq!(verdicts(&policy(), &story)[0].0, "2001:db8::/64");
    let ignore = ["2001:db8::5".parse().unwrap()].into_iter().collect();
    let careful = Policy { ignore, ..policy() };
    assert_eq!(verdicts(&careful, &story), []);
    story.extend(connects("2001:db8::2", &[(2, 446)]));
    assert_eq!(verdicts(&careful, &story)[0].0, "2001:db8::2/128");
}

#[test]
fn a_trigger_counts_different_ports() {
    let policy =
        |ports| Policy::from_flags(&PolicyFlags { trigger: Some(ports), ..PolicyFlags::default() }).unwrap();
    assert_eq!(verdicts(&policy(1), &connects("192.0.2.7", &[(0, 23)])).len(), 1);
    let touches: Vec<_> = (0..5).map(|n| (n, 1000 + n as u16)).collect();
    assert_eq!(verdicts(&policy(6), &connects("192.0.2.7", &touches)), []);
    assert_eq!(verdicts(&policy(5), &connects("192.0.2.7", &touches)).len(), 1);
}

#[test]
fn ignored_sources_are_not_judged() {
    let ignore = ["192.0.2.0/24".parse().unwrap()].into_iter().collect();
    assert_eq!(verdicts(&Policy { ignore, ..policy() }, &connects("192.0.2.7", &[(0, 23), (1, 445)])), []);
}

#[test]
fn the_reason_is_a_sentence_that_names_the_ports() {
    let said = said(&policy(), &connects("192.0.2.7", &[(0, 23), (1, 445)]));
    let want = "It touched 2 different decoys (23/tcp, 445/tcp) with completed handshakes; \
                at most one innocent source in 1000 does that.";
    assert_eq!(said[0].reason.as_deref(), Some(want));
    assert_eq!((said[0].ports.as_slice(), said[0].level), (&[23, 445][..], Some(3)));
}

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
fn one_port_at_many_addresses_is_a_sweep_of_them() {
    let sweep = |kind: Kind, addresses: u64| -> Vec<Record> {
        (0..addresses)
            .map(|n| {
                let Record::Probe(mut probe) = probe(n, "192.0.2.7", 22, kind) else { panic!() };
                probe.common.dest_ip = Some(std::net::Ipv4Addr::from(0xc633_6400 + n as u32).into());
                Record::Probe(probe)
            })
            .collect()
    };
    assert_eq!(words(&policy(), &sweep(Kind::Connect, 2)), [""; 0]);
    let said = said(&policy(), &sweep(Kind::Connect, 3));
    let want = "It touched 1 decoy (22/tcp) at several addresses with completed handshakes; \
                at most one innocent source in 1000 does that.";
    assert_eq!(said[0].reason.as_deref(), Some(want));
    assert_eq!(words(&policy(), &sweep(Kind::Syn, 3)), [""; 0]);
    assert_eq!(words(&policy(), &sweep(Kind::Syn, 4)).len(), 1);
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
fn a_climbing_source_is_watched_and_blocked_at_its_level() {
    let policy = policy_of("[levels]\nwatch = 1\nblock = 4\n");
    let story: Vec<Record> =
        (0..1600u64).map(|n| probe(n / 10, "192.0.2.7", 1000 + (n % 3) as u16, Kind::Connect)).collect();
    let said = said(&policy, &story);
    let short: Vec<(&str, u8, u64)> =
        said.iter().map(|body| (body.action.name(), body.level.unwrap(), body.count.unwrap())).collect();
    assert_eq!(short, [("watch", 3, 2), ("block", 4, 1500)]);
    assert!(said[0].reason.as_deref().unwrap().ends_with("It is only watched below level 4."), "{said:?}");
    // Who is blocked does not climb by the conviction that it was blocked for.
    let policy = policy_of("[levels]\nwatch = 1\n");
    let story = connects("192.0.2.7", &[(0, 1), (1, 2), (2, 3), (3, 4)]);
    assert_eq!(words(&policy, &story), ["block 192.0.2.7/32 sequential"]);
    // One who is never convicted climbs by its packets alone, once it touched two ports.
    let policy = policy_of("[levels]\nwatch = 1\n[test]\ntrigger = 9\n");
    let story: Vec<Record> =
        (0..20u64).map(|n| probe(n, "192.0.2.7", 1000 + (n % 2) as u16, Kind::Connect)).collect();
    assert_eq!(words(&policy, &story), ["watch 192.0.2.7/32 level", "watch 192.0.2.7/32 level"]);
}

#[test]
fn offences_grow_and_are_forgiven() {
    let policy = policy_of("[block]\nforgive = \"10d\"\n");
    let again =
        |days: u64, port: u16| connects("192.0.2.7", &[(days * 86_400, port), (days * 86_400 + 1, port + 1)]);
    // The stream falls silent for weeks between them.
    let story: Vec<Record> =
        [again(0, 1), again(1, 3), again(2, 5), again(13, 7), again(50, 9)].into_iter().flatten().collect();
    let said: Vec<(u64, u32)> =
        verdicts(&policy, &story).into_iter().map(|(_, secs, offence, _)| (secs / 3600, offence)).collect();
    assert_eq!(said, [(1, 1), (2, 2), (4, 3), (4, 3), (1, 1)]);
    // What could be forged is no offence that grows.
    let forged: Vec<Record> = (0..5u64)
        .flat_map(|n| [probe(n * 100, "192.0.2.7", 1, Kind::Udp), probe(n * 100, "192.0.2.7", 2, Kind::Udp)])
        .collect();
    assert!(verdicts(&policy, &forged).iter().all(|verdict| verdict.1 == 60 && verdict.2 == 1));
}

#[test]
fn for_ever_is_a_block_without_an_end() {
    let policy = policy_of("[block]\nduration = \"forever\"\n");
    let story = connects("192.0.2.7", &[(0, 1), (1, 2), (400 * 86_400, 3), (400 * 86_400 + 1, 4)]);
    let said = said(&policy, &story);
    assert_eq!(said.iter().map(|body| body.duration).collect::<Vec<_>>(), [None]);
}

pub(super) fn vouch(secs: u64, src: &str) -> Record {
    let mut common = Common::at(at(secs));
    common.src_ip = Some(src.parse().unwrap());
    let body = VouchBody { user: Some("alice".into()), method: Some("ssh".into()), duration: None };
    Record::Vouch(Vouch { common, body })
}

#[test]
fn who_logged_in_is_only_watched_and_the_verdict_says_so() {
    let mut story = vec![vouch(0, "192.0.2.7")];
    story.extend(connects("192.0.2.7", &[(10, 23), (11, 445)]));
    let said = said(&policy(), &story);
    assert_eq!((said.len(), said[0].action), (1, Action::Watch));
    let reason = said[0].reason.as_deref().unwrap();
    assert!(reason.contains("alice logged in from there by ssh at 2023-11-14T22:13:20.000000Z"), "{reason}");
    // A week later the login is forgotten.
    let mut story = vec![vouch(0, "192.0.2.7")];
    story.extend(connects("192.0.2.7", &[(604_800, 23), (604_801, 445)]));
    assert_eq!(words(&policy(), &story), ["block 192.0.2.7/32 sequential"]);
    // Nor does what was only watched outlast the login.
    let mut story = vec![vouch(0, "192.0.2.7")];
    story.extend(connects("192.0.2.7", &[(604_790, 23), (604_791, 445), (604_801, 23), (604_802, 445)]));
    let want = ["watch 192.0.2.7/32 sequential", "block 192.0.2.7/32 sequential"];
    assert_eq!(words(&policy(), &story), want);
    // It lets in who is blocked.
    let mut story = connects("2001:db8::7", &[(0, 23), (1, 445)]);
    story.push(vouch(2, "2001:db8::99"));
    story.extend(connects("2001:db8::7", &[(3, 23), (4, 445)]));
    let want =
        ["block 2001:db8::/64 sequential", "unblock 2001:db8::/64 vouch", "watch 2001:db8::/64 sequential"];
    assert_eq!(words(&policy(), &story), want);
}

#[test]
fn a_sweep_widens_to_the_prefix_and_narrows_again() {
    let story: Vec<Record> = (1..=20u64)
        .flat_map(|n| connects(&format!("192.0.2.{n}"), &[(n, 23), (n, 2323)]))
        .chain([probe(19, "192.0.2.99", 80, Kind::Connect)])
        .chain(connects("192.0.2.200", &[(2500, 23), (2501, 445)]))
        .chain(connects("192.0.2.201", &[(5000, 23), (5001, 445)]))
        .collect();
    let said = words(&policy(), &story);
    assert_eq!(said.len(), 23, "{said:#?}");
    assert_eq!(said[7..9], ["block 192.0.2.8/32 sequential", "block 192.0.2.0/24 sweep"]);
    assert_eq!(said[9], "block 192.0.2.9/32 sequential", "the blocker may have had to refuse the prefix");
    // A login from there ends it.
    let came_in: Vec<Record> = story.iter().cloned().chain([vouch(6000, "192.0.2.60")]).collect();
    assert_eq!(words(&policy(), &came_in).len(), 23, "it had ended by itself");
    let came_in: Vec<Record> = story[..40].iter().cloned().chain([vouch(40, "192.0.2.60")]).collect();
    assert_eq!(words(&policy(), &came_in).last().map(String::as_str), Some("unblock 192.0.2.0/24 vouch"));
    // Who logged in from there, or is ignored there, is not shut out with it; nor do forged packets widen.
    let vouched: Vec<Record> = [vouch(0, "192.0.2.77")].into_iter().chain(story.clone()).collect();
    let ignore = ["192.0.2.250".parse().unwrap()].into_iter().collect();
    let forged: Vec<Record> = (1..=20u64)
        .flat_map(|n| [1, 2, 3].map(|port| probe(n, &format!("192.0.2.{n}"), port, Kind::Udp)))
        .collect();
    let no_sweep = |policy: &Policy, story: &[Record]| {
        let said = words(policy, story);
        said.len() >= 20 && !said.iter().any(|said| said.ends_with("sweep"))
    };
    assert!(no_sweep(&policy(), &vouched));
    assert!(no_sweep(&Policy { ignore, ..policy() }, &story));
    assert!(no_sweep(&policy(), &forged));
}

#[test]
fn the_brake_says_so_once_and_lets_go_again() {
    let policy = policy_of("[brake]\nblocks = 3\npause = \"5m\"\n[sweep]\nsources = 0\n");
    let burst = |from: u64, net: u8| -> Vec<Record> {
        (1..=5u64).flat_map(|n| connects(&format!("198.51.{net}.{n}"), &[(from, 23), (from, 445)])).collect()
    };
    let said = words(&policy, &burst(0, 100));
    let want = [
        "block 198.51.100.1/32 sequential",
        "block 198.51.100.2/32 sequential",
        "block 198.51.100.3/32 sequential",
        "watch 198.51.100.4/32 brake",
        "watch 198.51.100.4/32 sequential",
        "watch 198.51.100.5/32 sequential",
    ];
    assert_eq!(said, want);
    let story: Vec<Record> = burst(0, 100).into_iter().chain(burst(301, 100)).collect();
    let said = words(&policy, &story);
    assert_eq!(said[6], "block 198.51.100.4/32 sequential", "who was only watched is judged anew: {said:#?}");
}

#[test]
fn a_record_from_the_future_counts_alone_and_spoils_nothing() {
    let mut story = connects("192.0.2.7", &[(0, 23)]);
    story.extend(connects("192.0.2.8", &[(400 * 86_400, 23), (1, 445)]));
    story.extend(connects("192.0.2.7", &[(2, 445)]));
    story.extend(connects("192.0.2.8", &[(3, 446)]));
    let mut state = State::new(100);
    let mut verdicts = Vec::new();
    story.iter().for_each(|record| step(&mut state, &policy(), record, &mut verdicts));
    let until: Vec<Timestamp> = verdicts.iter().filter_map(Verdict::until).collect();
    assert_eq!(until.len(), 2);
    assert!(until.iter().all(|until| *until <= at(3603)), "{until:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// However many sources and ports, memory stays at its bounds, and nobody is convicted for fewer than two.
    #[test]
    fn memory_is_bounded_and_one_port_never_convicts(
        touches in prop::collection::vec((0..2000u64, 0..40u8, 0..60u16, any::<bool>()), 0..400),
    ) {
        let policy = Policy { max_sources: 10, max_contacts: 8, ..policy() };
        let mut state = State::new(policy.max_sources);
        let mut verdicts = Vec::new();
        for (secs, host, port, tcp) in touches {
            let kind = if tcp { Kind::Connect } else { Kind::Udp };
            step(&mut state, &policy, &probe(secs, &format!("192.0.2.{host}"), port, kind), &mut verdicts);
            for verdict in verdicts.drain(..) {
                prop_assert!(verdict.body.count.unwrap() >= 2);
            }
            prop_assert!(state.sources.held() <= 10);
            let scope = policy.scope(format!("192.0.2.{host}").parse().unwrap());
            prop_assert!(state.sources.peek(scope).unwrap().contacts().count() <= 8);
        }
    }
}
