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
fn a_climb_that_was_turned_down_is_blocked_when_the_brake_lets_go_or_the_login_is_forgotten() {
    let policy = policy_of(
        "[levels]\nblock = 4\npackets = [1, 2, 3, 10, 1000]\n\
         [brake]\nblocks = 1\npause = \"5m\"\n[sweep]\nsources = 0\n",
    );
    let ten = |src: &str, from: u64| -> Vec<Record> {
        (0..10u64).map(|n| probe(from + n, src, 1000 + (n % 2) as u16, Kind::Connect)).collect()
    };
    let [one, two] = ["192.0.2.1", "192.0.2.2"];
    let mut story = [ten(one, 0), ten(two, 20)].concat();
    // While the brake is on, it is said once.
    story.extend((30..320).step_by(10).map(|secs| probe(secs, two, 1000, Kind::Connect)));
    let want = [
        "watch 192.0.2.1/32 sequential",
        "block 192.0.2.1/32 level",
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
    let watched = ["watch 192.0.2.1/32 sequential", "watch 192.0.2.1/32 level"];
    assert_eq!(words(&policy, &story), watched);
    story.extend([300, 301].map(|secs| probe(secs, one, 1000, Kind::Connect)));
    assert_eq!(words(&policy, &story)[2..], ["block 192.0.2.1/32 level"]);
}
