//! What an attacker, or a wrong clock, would like the judge to do: each a story that must not end that way.

use psentry_records::{Kind, Proto};

use super::*;
use crate::policy::tests::policy_of;

const DAY: u64 = 86_400;

fn changed(record: Record, change: impl FnOnce(&mut Probe)) -> Record {
    let Record::Probe(mut probe) = record else { panic!("no probe") };
    change(&mut probe);
    Record::Probe(probe)
}

/// A handshake with the sensor that stands for all closed ports.
fn closed(secs: u64, src: &str, port: u16) -> Record {
    changed(probe(secs, src, port, Kind::Connect), |probe| probe.body.sensor = Some("mirage".to_owned()))
}

/// Stories of the same time in the order of their moments.
fn merged(mut story: Vec<(u64, Record)>) -> Vec<Record> {
    story.sort_by_key(|&(order, _)| order);
    story.into_iter().map(|(_, record)| record).collect()
}

#[test]
fn forged_packets_make_no_handshake_weigh_more() {
    let src = "192.0.2.7";
    // Two closed ports by handshake convict nobody; nor do they with flags, or a signature, that somebody forged.
    for how in [Kind::Fin, Kind::Syn] {
        let story = [
            closed(0, src, 8080),
            closed(1, src, 8443),
            changed(probe(2, src, 8080, how), |probe| probe.body.signature = Some("masscan".to_owned())),
            changed(probe(3, src, 8443, how), |probe| probe.body.signature = Some("masscan".to_owned())),
        ];
        for order in [[0, 1, 2, 3], [2, 3, 0, 1]] {
            let said = verdicts(&policy(), &order.map(|n| story[n].clone()));
            assert!(said.iter().all(|said| !said.3 && said.1 == 60), "{how:?} {said:?}");
        }
    }
}

#[test]
fn forged_packets_count_up_no_handshake() {
    let policy = policy_of("[test]\ntouches = 5\n");
    let forged = |secs| probe(secs, "192.0.2.7", 3389, Kind::Syn);
    for at in [0, 20] {
        // One handshake of the victim's own, before or after.
        let mut story: Vec<Record> = (10..19).map(forged).collect();
        let place = if at == 0 { 0 } else { story.len() };
        story.insert(place, probe(at, "192.0.2.7", 3389, Kind::Connect));
        let said = verdicts(&policy, &story);
        assert!(said.iter().all(|said| !said.3), "{said:?}");
    }
}

#[test]
fn forged_packets_freshen_no_handshake() {
    // Two slips, days apart, of one who may be many people behind one address.
    let mut story = connects("192.0.2.7", &[(0, 23), (5 * DAY, 445)]);
    story.extend([23, 445].map(|port| probe(9 * DAY, "192.0.2.7", port, Kind::Syn)));
    let said = verdicts(&policy(), &story);
    assert!(said.iter().all(|said| !said.3), "{said:?}");
}

#[test]
fn who_has_himself_blocked_briefly_is_not_forgotten_what_he_proved() {
    // One decoy by handshake, two datagrams, a minute of waiting, and again.
    let src = "192.0.2.7";
    let story: Vec<Record> = (0..3u64)
        .flat_map(|n| {
            let port = 1000 + 10 * n as u16;
            [
                probe(n * 70, src, port, Kind::Connect),
                probe(n * 70 + 1, src, port + 1, Kind::Udp),
                probe(n * 70 + 2, src, port + 2, Kind::Udp),
            ]
        })
        .collect();
    let said = verdicts(&policy(), &story);
    assert!(said.iter().any(|said| said.3 && said.1 == 3600), "{said:?}");
    // A flood of other ports does not push a slow scan out of memory either.
    let slow = (0..10u64).flat_map(|n| {
        let flood = (0..40).map(move |port| probe(n * DAY + 5, src, 2000 + port, Kind::Ack));
        [probe(n * DAY, src, 1000 + n as u16, Kind::Connect)].into_iter().chain(flood)
    });
    let said = verdicts(&policy(), &slow.collect::<Vec<_>>());
    assert!(said.iter().any(|said| said.3), "{said:?}");
}

#[test]
fn a_forged_touch_of_the_port_elsewhere_halves_no_proof() {
    let src = "192.0.2.7";
    let there = |record| changed(record, |probe| probe.common.host = Some("elsewhere".to_owned()));
    let story = [
        there(probe(0, src, 23, Kind::Syn)),
        there(probe(0, src, 445, Kind::Syn)),
        probe(1, src, 23, Kind::Connect),
        probe(2, src, 445, Kind::Connect),
    ];
    let said = verdicts(&policy(), &story);
    assert!(said.iter().any(|said| said.3), "{said:?}");
    // Nor does one before the window.
    let story = [
        there(probe(0, src, 23, Kind::Connect)),
        probe(1000, src, 23, Kind::Connect),
        probe(1001, src, 445, Kind::Connect),
    ];
    assert_eq!(words(&policy_of("[test]\ntrigger = 2\n"), &story).len(), 1);
}

#[test]
fn a_flood_of_forged_sources_stops_no_block_of_a_proven_scanner() {
    // Three closed ports in the name of each of 305 sources, all within a second; then a scan by handshakes.
    let forged = (0..305u32).flat_map(|n| {
        let src = std::net::Ipv4Addr::from(0x0b00_0000 + (n << 8)).to_string();
        [1, 2, 3].map(|port| probe(0, &src, port, Kind::Syn))
    });
    let story: Vec<Record> = forged.chain(connects("192.0.2.7", &[(1, 23), (1, 445)])).collect();
    let said = words(&policy(), &story);
    assert!(said.contains(&"watch 11.1.44.0/32 brake".to_owned()), "{said:#?}");
    assert_eq!(said.last().map(String::as_str), Some("block 192.0.2.7/32 sequential"));
}

#[test]
fn all_sources_of_one_network_stop_no_block_of_others() {
    // Two decoys by each of 310 /64s of one /48: by handshakes, and in forged datagrams.
    for kind in [Kind::Connect, Kind::Udp] {
        let flood = (0..310u32)
            .flat_map(|n| [23, 445].map(|port| probe(0, &format!("2001:db8:7:{n:x}::1"), port, kind)));
        let others =
            (0..20u32).flat_map(|n| [23, 445].map(|port| probe(1, &format!("192.0.{n}.7"), port, kind)));
        let story: Vec<Record> = flood.chain(others).collect();
        let said = words(&policy(), &story);
        let blocks = said.iter().filter(|said| said.starts_with("block 192.0.")).count();
        assert_eq!(blocks, 20, "{kind:?}");
        assert!(said.iter().all(|said| !said.ends_with(" brake")), "{kind:?}");
    }
}

#[test]
fn whoever_forges_all_addresses_of_a_network_has_few_of_them_blocked() {
    // Each of these would take room and packets of psentry-block, and a verdict and outcomes in the log.
    let story = |secs, kind| {
        let one = move |n: u32| format!("2001:db8:7:{n:x}::1");
        (0..400u32).flat_map(move |n| [23, 445].map(|port| probe(secs, &one(n), port, kind)))
    };
    let forged: Vec<Record> = story(0, Kind::Udp).collect();
    let count = |said: &[String], what: &str| said.iter().filter(|said| said.starts_with(what)).count();
    let said = words(&policy(), &forged);
    assert_eq!((count(&said, "block"), count(&said, "watch")), (8, 392));
    // That is said once of each, however many packets follow while it holds; the next minute has its own eight.
    let again: Vec<Record> = forged.iter().cloned().chain(story(30, Kind::Udp)).collect();
    assert_eq!(words(&policy(), &again), said);
    let later: Vec<Record> = forged.into_iter().chain(story(61, Kind::Udp)).collect();
    assert_eq!(count(&words(&policy(), &later), "block"), 16);
    // What handshakes prove is not counted, and neither is anything without a brake.
    let proven: Vec<Record> = story(0, Kind::Connect).collect();
    assert!(count(&words(&policy_of("[sweep]\nsources = 0\n"), &proven), "block") == 400);
    let forged: Vec<Record> = story(0, Kind::Udp).collect();
    assert_eq!(count(&words(&policy_of("[brake]\nunproven = 0\n"), &forged), "block"), 400);
}

#[test]
fn wild_times_neither_set_the_brake_nor_end_vouchers_nor_widen() {
    let policy = policy_of("[brake]\nproven = 1\n[sweep]\nsources = 3\n");
    // Records of a wrong clock, each between two of the right one, so that none bears another out.
    let wild = |n: u64, src: &str, port| (n, probe(400 * DAY + n, src, port, Kind::Connect));
    let right = |n: u64| (n, probe(n * 30, "203.0.113.1", 80, Kind::Connect));
    let mut story = vec![(0, vouch(0, "198.51.100.9"))];
    for n in 1..=5u64 {
        let src = format!("192.0.2.{n}");
        story.extend([right(4 * n), wild(4 * n + 1, &src, 23), right(4 * n + 2), wild(4 * n + 3, &src, 445)]);
    }
    story.extend([right(24), wild(25, "198.51.100.9", 23), right(26), wild(27, "198.51.100.9", 445)]);
    let mut records = merged(story);
    let said = words(&policy, &records);
    assert!(!said.iter().any(|said| said.ends_with("sweep")), "{said:#?}");
    assert_eq!(said.last().map(String::as_str), Some("watch 198.51.100.9/32 sequential"), "{said:#?}");
    // From then on: a network in two minutes is far from two in one.
    let begun = said.len();
    for n in 0..20u64 {
        records.extend(connects(
            &format!("198.51.{}.7", 20 + n),
            &[(2000 + n * 120, 23), (2001 + n * 120, 445)],
        ));
    }
    let said = words(&Policy { sweep: policy_of("[sweep]\nsources = 0\n").sweep, ..policy }, &records);
    assert!(said.iter().skip(begun).all(|said| said.starts_with("block")), "{said:#?}");
}

#[test]
fn a_clock_that_was_set_back_leaves_nothing_standing_in_the_future() {
    let policy = policy_of("[brake]\nproven = 4\n[sweep]\nsources = 0\n");
    let far = 400 * DAY;
    let burst = |from: u64| {
        (1..=6u64).flat_map(move |n| connects(&format!("192.0.{n}.1"), &[(from, 23), (from, 445)]))
    };
    let story: Vec<Record> = connects("203.0.113.1", &[(0, 80)])
        .into_iter()
        .chain(burst(far))
        .chain(connects("203.0.113.2", &[(10, 80), (11, 80)]))
        .chain(connects("192.0.1.1", &[(20, 23), (21, 445)]))
        .collect();
    let said = words(&policy, &story);
    assert_eq!(said.last().map(String::as_str), Some("block 192.0.1.1/32 sequential"), "{said:#?}");
}

#[test]
fn after_a_clock_that_was_ahead_a_scanner_is_convicted_at_once_and_innocents_are_not() {
    let (src, ahead) = ("192.0.2.7", 2 * DAY);
    let decoys = [21, 23, 25, 110, 445, 3389, 5900, 8080, 11211];
    let scan = |from: u64| -> Vec<Record> {
        (0..45u64).map(|n| probe(from + n, src, decoys[n as usize % 9], Kind::Connect)).collect()
    };
    // By the wrong clock: a scanner, and others with one slip each.
    let mut story = connects("198.51.100.1", &[(0, 80)]);
    story.extend(scan(ahead));
    story.extend(connects("198.51.100.2", &[(ahead + 50, 8080)]));
    story.extend(connects("198.51.100.3", &[(ahead + 51, 23)]));
    let want = "block 192.0.2.7/32 sequential";
    assert_eq!(words(&policy(), &story), [want]);
    for (after, hours) in [(60, 0), (7200, 2), (DAY, 24)] {
        let mut story = story.clone();
        story.extend(connects("198.51.100.4", &[(after - 2, 80), (after - 1, 80)]));
        // A slip before and one after an hour are two slips; so close together they are what they always were.
        story.extend(connects("198.51.100.2", &[(after + 3600, 445)]));
        story.extend(scan(after + 3600));
        let begun = story.len();
        assert_eq!(words(&policy(), &story), [want, want], "{hours} hours later, {begun} records");
    }
    // The evidence of before the step still counts, dated right.
    story.extend(connects("198.51.100.4", &[(60, 80), (61, 80)]));
    story.extend(connects("198.51.100.3", &[(70, 445)]));
    assert_eq!(words(&policy(), &story), [want, "block 198.51.100.3/32 sequential"]);
    // One wrong record moves the stream ahead, two right ones move it back: it hides nobody.
    let mut story = connects("198.51.100.1", &[(0, 80), (3 * DAY, 80)]);
    story.extend(connects(src, &[(10, 23), (11, 445)]));
    assert_eq!(words(&policy(), &story), [want]);
    let mut state = State::new(10);
    story.iter().for_each(|record| step(&mut state, &policy(), record, &mut Vec::new()));
    let said =
        "the time of the records jumped back from 2023-11-17T22:13:20.000000Z to 2023-11-14T22:13:31.000000Z";
    assert_eq!(state.warnings, [said]);
}

#[test]
fn a_sensor_that_is_late_hides_nothing_and_frees_nobody() {
    // Two machines, one of which is ten minutes behind: the stream goes back and forth, and the evidence adds up.
    let on = |record, host: &str| changed(record, |probe| probe.common.host = Some(host.to_owned()));
    let mut story = Vec::new();
    for n in 0..6u64 {
        story.push(on(probe(1000 + 20 * n, "198.51.100.9", 80, Kind::Connect), "here"));
        story.extend((0..3).map(|m| on(probe(400 + 20 * n + m, "198.51.100.9", 80, Kind::Connect), "there")));
    }
    story.push(on(probe(1200, "192.0.2.7", 23, Kind::Connect), "here"));
    story.extend((0..2).map(|m| on(probe(600 + m, "198.51.100.9", 80, Kind::Connect), "there")));
    story.push(on(probe(603, "192.0.2.7", 445, Kind::Connect), "there"));
    assert_eq!(words(&policy(), &story), ["block 192.0.2.7/32 sequential"]);
}

#[test]
fn a_record_of_the_past_washes_nothing_away() {
    let story = [
        probe(100 * DAY, "192.0.2.7", 23, Kind::Connect),
        probe(80 * DAY, "192.0.2.7", 8080, Kind::Connect),
        probe(100 * DAY + 1, "192.0.2.7", 445, Kind::Connect),
    ];
    assert_eq!(words(&policy(), &story), ["block 192.0.2.7/32 sequential"]);
}

#[test]
fn a_voucher_begins_when_it_came_and_not_in_the_future() {
    let mut story = connects("203.0.113.1", &[(0, 80)]);
    story.push(vouch(900 * DAY, "192.0.2.7"));
    story.extend(connects("192.0.2.7", &[(8 * DAY, 23), (8 * DAY + 1, 445)]));
    // The days between, so that the stream does not jump.
    story.insert(2, probe(4 * DAY, "203.0.113.1", 80, Kind::Connect));
    assert_eq!(words(&policy(), &story), ["block 192.0.2.7/32 sequential"]);
    // One that is over lets nobody in.
    let mut story = connects("192.0.2.7", &[(10 * DAY, 23), (10 * DAY + 1, 445)]);
    story.push(vouch(2 * DAY, "192.0.2.7"));
    assert_eq!(words(&policy(), &story), ["block 192.0.2.7/32 sequential"]);
}

#[test]
fn sources_of_a_blocked_prefix_get_verdicts_one_by_one() {
    // Whoever applies the verdict may have to refuse the prefix, because this machine is in it.
    let story: Vec<Record> =
        (1..=12u64).flat_map(|n| connects(&format!("192.0.2.{n}"), &[(n, 23), (n, 2323)])).collect();
    let said = words(&policy(), &story);
    let hosts = said.iter().filter(|said| said.ends_with("/32 sequential")).count();
    assert_eq!((hosts, said.len()), (12, 13), "{said:#?}");
}

#[test]
fn a_prefix_holds_nobody_whom_a_rule_never_counts_and_shared_ones_need_more() {
    let story: Vec<Record> = (1..=9u64)
        .flat_map(|n| (0..8u16).flat_map(move |m| connects(&format!("100.64.2.{n}"), &[(n, 23 + m)])))
        .collect();
    let sweeps =
        |text: &str| words(&policy_of(text), &story).iter().filter(|said| said.ends_with("sweep")).count();
    assert_eq!(sweeps(""), 1);
    let never = "[[rule]]\nname = \"monitoring\"\nnetworks = [\"100.64.2.10\"]\nignore = true\n";
    assert_eq!(sweeps(never), 0, "it would be blocked with its neighbours");
    let shared = "[[rule]]\nname = \"shared\"\nnetworks = [\"100.64.0.0/10\"]\nthreshold = 2.0\n";
    assert_eq!(sweeps(shared), 0, "nine sources are not twice eight");
}

#[test]
fn a_rule_for_one_ipv6_address_is_for_that_address() {
    let policy = policy_of("[[rule]]\nname = \"probe\"\nnetworks = [\"2001:db8::5\"]\nignore = true\n");
    assert_eq!(words(&policy, &connects("2001:db8::5", &[(0, 23), (1, 445)])), [""; 0]);
    let said = words(&policy, &connects("2001:db8::6", &[(0, 23), (1, 445)]));
    assert_eq!(said, ["block 2001:db8::6/128 sequential"]);
    let all = policy_of("[[rule]]\nname = \"lan\"\nnetworks = [\"2001:db8::/48\"]\nthreshold = 2.0\n");
    assert_eq!(
        all.scope("2001:db8::6".parse().unwrap(), &MachineFacts::default()).to_string(),
        "2001:db8::/64"
    );
    // Behind the well-known prefix of NAT64 a /64 would be all of IPv4 (RFC 6052).
    assert_eq!(all.scope("64:ff9b::192.0.2.7".parse().unwrap(), &MachineFacts::default()).len(), 128);
}

#[test]
fn huge_counts_and_the_ends_of_time_are_only_numbers() {
    let policy = policy_of("[levels]\nwatch = 1\nblock = 5\n[block]\njitter = 0.5\n");
    let mut state = State::new(10);
    let mut verdicts = Vec::new();
    for n in 0..40u64 {
        let record = changed(probe(0, "192.0.2.7", n as u16 % 5, Kind::Connect), |probe| {
            probe.common.timestamp =
                if n % 3 == 0 { Timestamp::MAX } else { Timestamp::from_micros(n as i64).unwrap() };
            probe.common.proto = if n % 2 == 0 { None } else { Some(Proto::Icmp) };
            probe.body.count = [0, u32::MAX][n as usize % 2];
        });
        step(&mut state, &policy, &record, &mut verdicts);
    }
    for verdict in verdicts {
        assert!(verdict.until().is_none_or(|until| until <= Timestamp::MAX));
        assert!(verdict.body.level <= Some(5));
    }
    assert_eq!(at(0).since(Timestamp::MAX), std::time::Duration::ZERO);
}
