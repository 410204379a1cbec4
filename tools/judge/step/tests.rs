//! The decision, as stories: who touched what when, and which verdicts came of it.

mod abuse;
mod enforce;
mod evidence;

use proptest::prelude::*;
use psentry_records::{Action, Kind, ProbeBody, Proto, VerdictBody, Vouch, VouchBody};

use super::*;
use crate::machine::MachineFacts;
use crate::policy::PolicyFlags;
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
fn one_port_over_tcp_and_udp_and_the_ports_of_a_family_are_one_contact() {
    let src = "192.0.2.7";
    let story = [probe(0, src, 161, Kind::Connect), probe(1, src, 161, Kind::Udp)];
    assert_eq!(verdicts(&policy(), &story), []);
    // What smbclient does, and what Windows does; then another service.
    let mut story = connects(src, &[(0, 445), (1, 139), (2, 135), (3, 445)]);
    story.push(probe(4, src, 137, Kind::Udp));
    assert_eq!(verdicts(&policy(), &story), []);
    story.extend(connects(src, &[(5, 3389)]));
    let said = said(&policy(), &story);
    let want = "It touched 2 different decoys (smb: 445/tcp + 139/tcp + 135/tcp + 137/udp, 3389/tcp), some of them with \
                completed handshakes; at most one innocent source in 1000 does that.";
    assert_eq!(said[0].reason.as_deref(), Some(want));
    assert_eq!((said[0].handshake, said[0].duration), (Some(true), Some(3600)));
    // A family weighs as its heaviest port, however light the first of them was.
    let story =
        [probe(0, src, 139, Kind::Ack), probe(1, src, 445, Kind::Connect), probe(2, src, 23, Kind::Connect)];
    assert_eq!(verdicts(&policy(), &story).len(), 1);
    let trigger = Policy::from_flags(&PolicyFlags { trigger: Some(2), ..PolicyFlags::default() }).unwrap();
    assert_eq!(verdicts(&trigger, &connects(src, &[(0, 445), (1, 139)])), []);
    assert_eq!(verdicts(&trigger, &connects(src, &[(0, 445), (1, 139), (2, 80)])).len(), 1);
}

#[test]
fn who_touches_the_ports_of_few_families_hides_nothing_behind_them() {
    // As many ports as are remembered, of five families that do not convict, and then others.
    let src = "192.0.2.7";
    let ports = [135, 137, 138, 139, 445, 111, 2049, 5060, 5061, 53, 853, 389, 636, 3268, 3269];
    let kinds = [Kind::Ack, Kind::Other];
    let mut story: Vec<Record> = ports
        .iter()
        .flat_map(|&port| kinds.map(|kind| (port, kind)))
        .map(|(port, kind)| {
            let Record::Probe(mut probe) = probe(0, src, port, kind) else { panic!() };
            probe.common.proto = Some(if kind == Kind::Ack { Proto::Tcp } else { Proto::Udp });
            probe.body.class = Some(psentry_records::Class::Stray);
            Record::Probe(probe)
        })
        .collect();
    story.extend((0..8).map(|n| probe(1, src, [80, 443][n % 2], Kind::Ack)));
    let quiet = verdicts(&policy_of("[test]\ntrigger = 7\n"), &story);
    assert_eq!(quiet, []);
    story.extend([22, 6379].map(|port| probe(2, src, port, Kind::Udp)));
    let said = verdicts(&policy_of("[test]\ntrigger = 7\n"), &story);
    assert_eq!(said.len(), 1, "{said:?}");
}

#[test]
fn a_rule_for_one_port_of_a_family_holds_whichever_was_touched_first() {
    let policy = policy_of("[[rule]]\nname = \"smb\"\nports = [445]\nconvict = true\n");
    let said = words(&policy, &connects("192.0.2.7", &[(0, 139), (1, 445)]));
    assert_eq!(said, ["block 192.0.2.7/32 smb"]);
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
            let scope = policy.scope(format!("192.0.2.{host}").parse().unwrap(), &MachineFacts::default());
            prop_assert!(state.sources.peek(scope).unwrap().contacts().count() <= 8);
        }
    }
}
