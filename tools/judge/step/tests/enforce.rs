//! What is between a conviction and a block: levels, logins, whole prefixes, the brake.

use super::*;

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
        .flat_map(|n| connects(&format!("192.0.2.{}", 12 * n), &[(n, 23), (n, 2323)]))
        .chain([probe(19, "192.0.2.99", 80, Kind::Connect)])
        .chain(connects("192.0.2.200", &[(2500, 23), (2501, 445)]))
        .chain(connects("192.0.2.201", &[(5000, 23), (5001, 445)]))
        .collect();
    let said = words(&policy(), &story);
    assert_eq!(said.len(), 23, "{said:#?}");
    // The tenth is in the eighth /28.
    assert_eq!(said[9..11], ["block 192.0.2.120/32 sequential", "block 192.0.2.0/24 sweep"]);
    assert_eq!(said[11], "block 192.0.2.132/32 sequential", "the blocker may have had to refuse the prefix");
    // A login from there ends it.
    let came_in: Vec<Record> = story.iter().cloned().chain([vouch(6000, "192.0.2.61")]).collect();
    assert_eq!(words(&policy(), &came_in).len(), 23, "it had ended by itself");
    let came_in: Vec<Record> = story[..40].iter().cloned().chain([vouch(40, "192.0.2.61")]).collect();
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
    let policy = policy_of("[brake]\nunproven = 3\nproven = 3\npause = \"5m\"\n[sweep]\nsources = 0\n");
    for kind in [Kind::Connect, Kind::Udp] {
        let burst = |from: u64, nets: std::ops::RangeInclusive<u64>| -> Vec<Record> {
            let touch = |n: u64| [23, 445].map(|port| probe(from, &format!("198.51.{n}.7"), port, kind));
            nets.flat_map(touch).collect()
        };
        let said = words(&policy, &burst(0, 1..=5));
        let want = [
            "block 198.51.1.7/32 sequential",
            "block 198.51.2.7/32 sequential",
            "block 198.51.3.7/32 sequential",
            "watch 198.51.4.7/32 brake",
            "watch 198.51.4.7/32 sequential",
            "watch 198.51.5.7/32 sequential",
        ];
        assert_eq!(said, want);
        let said = words(&policy, &[burst(0, 1..=5), burst(301, 4..=5)].concat());
        assert_eq!(said[6], "block 198.51.4.7/32 sequential", "who was only watched is judged anew");
    }
}

#[test]
fn a_climb_that_was_turned_down_is_blocked_when_the_brake_lets_go_or_the_login_is_forgotten() {
    let policy = policy_of(
        "[levels]\nblock = 4\npackets = [1, 2, 3, 10, 1000]\n\
         [brake]\nproven = 1\npause = \"5m\"\n[sweep]\nsources = 0\n",
    );
    let ten = |src: &str, from: u64| -> Vec<Record> {
        (0..10u64).map(|n| probe(from + n, src, 1000 + (n % 2) as u16, Kind::Connect)).collect()
    };
    let [one, two] = ["192.0.1.1", "192.0.2.2"];
    let mut story = [ten(one, 0), ten(two, 20)].concat();
    // While the brake is on, it is said once.
    story.extend((30..320).step_by(10).map(|secs| probe(secs, two, 1000, Kind::Connect)));
    let want = [
        "watch 192.0.1.1/32 sequential",
        "block 192.0.1.1/32 level",
        "watch 192.0.2.2/32 sequential",
        "watch 192.0.2.2/32 brake",
        "watch 192.0.2.2/32 level",
    ];
    assert_eq!(words(&policy, &story), want);
    story.extend([329, 330, 331].map(|secs| probe(secs, two, 1000, Kind::Connect)));
    let said = words(&policy, &story);
    assert_eq!(said[5..], ["block 192.0.2.2/32 level"], "{said:#?}");
    let policy =
        policy_of("[levels]\nblock = 4\npackets = [1, 2, 3, 10, 1000]\n[vouch]\nduration = \"5m\"\n");
    let mut story = vec![vouch(0, one)];
    story.extend(ten(one, 10));
    story.extend((20..300).step_by(10).map(|secs| probe(secs, one, 1000, Kind::Connect)));
    let watched = ["watch 192.0.1.1/32 sequential", "watch 192.0.1.1/32 level"];
    assert_eq!(words(&policy, &story), watched);
    story.extend([300, 301].map(|secs| probe(secs, one, 1000, Kind::Connect)));
    assert_eq!(words(&policy, &story)[2..], ["block 192.0.1.1/32 level"]);
}

/// What psentry-trap says of the machine.
fn trap_says(secs: u64, own: &[&str], inside: &[&str]) -> Record {
    let of = |list: &[&str]| list.iter().map(|network| network.parse().unwrap()).collect();
    let machine = psentry_records::Machine {
        own_networks: of(own),
        inside_networks: of(inside),
        client_ports: (40_000, 50_000),
    };
    let body =
        psentry_records::StatsBody { machine: Some(machine), ..psentry_records::StatsBody::new("trap", []) };
    Record::Stats(psentry_records::Stats { common: Common::at(at(secs)), body })
}

fn sweeps(said: &[String]) -> usize {
    said.iter().filter(|said| said.ends_with("sweep")).count()
}

#[test]
fn neighbours_are_judged_one_by_one_and_never_with_their_network() {
    // Two of one /64, each with a slip; and a scanner among them.
    let near = |src: &str, from: u64| connects(src, &[(from, 23), (from + 1, 445)]);
    let mut story = vec![trap_says(0, &["2001:db8::/64", "192.0.2.0/24"], &[])];
    story.extend(connects("2001:db8::7", &[(1, 23)]));
    story.extend(connects("2001:db8::8", &[(2, 445)]));
    story.extend(connects("fe80::8", &[(2, 445)]));
    story.extend(connects("fe80::9", &[(2, 23)]));
    assert_eq!(words(&policy(), &story), [""; 0]);
    story.extend(near("2001:db8::9", 3));
    assert_eq!(words(&policy(), &story), ["block 2001:db8::9/128 sequential"]);
    // Elsewhere a /64 is one, as it is without a trap, unless --own names the network.
    assert_eq!(words(&policy(), &near("2001:db8:0:1::9", 3)), ["block 2001:db8:0:1::/64 sequential"]);
    let own = PolicyFlags { own: vec!["2001:db8:0:1::/64".parse().unwrap()], ..PolicyFlags::default() };
    let own = Policy::from_flags(&own).unwrap();
    assert_eq!(words(&own, &near("2001:db8:0:1::9", 3)), ["block 2001:db8:0:1::9/128 sequential"]);
    // Eight PCs of the LAN that do the same are eight, and not their network.
    let lan = |net: &str| -> Vec<Record> {
        (1..=12u64).flat_map(|n| connects(&format!("{net}.{n}"), &[(n, 445), (n, 3389)])).collect()
    };
    let said = |text: &str, net: &str| {
        words(&policy_of(text), &[vec![trap_says(0, &["192.0.2.0/24"], &[])], lan(net)].concat())
    };
    let local = said("", "192.0.2");
    assert_eq!((local.len(), sweeps(&local)), (12, 0), "{local:#?}");
    assert_eq!(sweeps(&said("[sweep]\ninside = true\n", "192.0.2")), 1);
    assert_eq!(sweeps(&said("", "198.51.100")), 1, "a network far away is blocked as one");
    // A prefix with a part of an own network in it is none of the world's either.
    let part = [vec![trap_says(0, &["192.0.2.14/31"], &[])], lan("192.0.2")].concat();
    assert_eq!(sweeps(&words(&policy(), &part)), 0);
}

#[test]
fn who_is_behind_this_machine_is_watched_unless_the_policy_says_otherwise() {
    let mut story = vec![trap_says(0, &[], &["10.88.0.0/16", "2001:db8:88::/64"])];
    for (n, src) in ["10.88.0.7", "2001:db8:88::7", "192.0.2.7"].into_iter().enumerate() {
        let from = 10 * n as u64;
        story.extend(connects(src, &[(from, 9100), (from + 1, 22), (from + 2, 23), (from + 3, 445)]));
    }
    let outside = "block 192.0.2.7/32 sequential";
    let watched = ["watch 10.88.0.7/32 sequential", "watch 2001:db8:88::7/128 sequential", outside];
    assert_eq!(words(&policy(), &story), watched);
    let said = said(&policy(), &story);
    let reason = said[0].reason.as_deref().unwrap();
    assert!(reason.ends_with("It is behind this machine, so it is only watched."), "{reason}");
    let blocked = ["block 10.88.0.7/32 sequential", "block 2001:db8:88::7/128 sequential", outside];
    assert_eq!(words(&policy_of("[inside]\naction = \"block\"\n"), &story), blocked);
    assert_eq!(words(&policy_of("[inside]\naction = \"ignore\"\n"), &story), [outside]);
    // A climb is said once, and does not become a block.
    let levels = policy_of("[levels]\nblock = 4\npackets = [1, 2, 3, 10, 1000]\n");
    let mut story = vec![trap_says(0, &[], &["10.88.0.0/16"])];
    story.extend((0..40u64).map(|n| probe(n, "10.88.0.7", 1000 + (n % 2) as u16, Kind::Connect)));
    assert_eq!(words(&levels, &story), ["watch 10.88.0.7/32 sequential", "watch 10.88.0.7/32 level"]);
}

#[test]
fn answers_are_those_to_ports_that_the_kernel_lends() {
    let late = |port: u16| {
        let Record::Probe(mut probe) = probe(1, "192.0.2.7", port, Kind::Udp) else { panic!() };
        (probe.common.src_port, probe.body.sensor) = (Some(53), Some("trap".to_owned()));
        Record::Probe(probe)
    };
    let story = |first: u16| -> Vec<Record> {
        std::iter::once(trap_says(0, &[], &[])).chain((first..first + 9).map(late)).collect()
    };
    assert_eq!(words(&policy(), &story(45_000)), [""; 0]);
    assert_eq!(words(&policy(), &story(33_000)).len(), 1, "clients have 40000 to 50000 here");
    assert_eq!(words(&policy(), &story(33_000)[1..]), [""; 0]);
}

/// What a blocker says of a block.
fn outcome(secs: u64, scope: &str, result: psentry_records::OutcomeResult) -> Record {
    let scope = scope.parse().unwrap();
    let body = psentry_records::OutcomeBody::new(Action::Unblock, scope, Some("nft"), result);
    Record::Outcome(psentry_records::Outcome { common: Common::at(at(secs)), body })
}

#[test]
fn who_was_released_is_judged_anew_at_once() {
    use psentry_records::OutcomeResult::{Applied, Expired, Released};
    let again = |result| {
        let mut story = connects("192.0.2.7", &[(0, 23), (1, 445)]);
        story.push(outcome(10, "192.0.2.7", result));
        story.extend(connects("192.0.2.7", &[(20, 23)]));
        let after_one = words(&policy(), &story).len();
        story.extend(connects("192.0.2.7", &[(21, 445)]));
        (after_one, verdicts(&policy(), &story).last().map(|said| (said.1, said.2)))
    };
    assert_eq!(again(Released), (1, Some((7200, 2))), "its first touches are forgotten, its offence is not");
    for result in [Applied, Expired] {
        assert_eq!(again(result), (1, Some((3600, 1))), "it is blocked, and nothing more is said");
    }
    // One who was only watched was never blocked; nor is one of the past.
    let mut story = vec![vouch(0, "192.0.2.7")];
    story.extend(connects("192.0.2.7", &[(10, 23), (11, 445)]));
    story.push(outcome(12, "192.0.2.7", Released));
    story.extend(connects("192.0.2.7", &[(13, 23), (14, 445)]));
    assert_eq!(words(&policy(), &story).len(), 1);
    // A prefix takes as many sources as at first.
    let sweep = |hosts: std::ops::RangeInclusive<u64>| {
        hosts.flat_map(|n| connects(&format!("192.0.2.{n}"), &[(n, 23), (n, 2323)])).collect::<Vec<_>>()
    };
    let mut story = sweep(0..=7);
    story.push(outcome(8, "192.0.2.0/28", Released));
    story.extend(sweep(8..=14));
    let said = words(&policy(), &story);
    assert_eq!(sweeps(&said), 1, "{said:#?}");
    story.extend(sweep(15..=15));
    assert_eq!(sweeps(&words(&policy(), &story)), 2);
}
