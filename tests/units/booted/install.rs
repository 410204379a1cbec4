//! `units/install` and `units/uninstall`: what could go wrong is seen before anything is changed, and what is taken away is what
//! was made.

use super::{Booted, wait_until};

const INSTALL: &str = "/opt/psentry/units/install --programs /opt/psentry/bin";
const UNINSTALL: &str = "/opt/psentry/units/uninstall";

/// All files and folders that psentry could have made, with what is in them; and the accounts.
const EVERYTHING: &str = "find /etc /usr/local /var/log /var/lib /run/psentry* -xdev -printf '%p %y %m %U %G %l\\n' 2>/dev/null |
    grep -vE '/journal/|/var/log/(apt|dpkg)|ld.so.cache|/var/lib/systemd|/var/lib/private|/etc/(group|gshadow|passwd|shadow|subuid|subgid)|/etc/.pwd.lock' | sort
    find /etc/psentry /usr/local/bin /usr/local/lib /usr/local/share -type f 2>/dev/null | sort | xargs -r md5sum
    cat /etc/passwd /etc/group";

/// The exit status of a line of shell, and what it says on standard error.
fn fails(guard: &Booted, line: &str) -> (Option<i32>, String) {
    let output = guard.run(line);
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn what_could_go_wrong_is_seen_before_anything_is_changed() {
    if !Booted::possible() {
        return;
    }
    let guard = Booted::boot();
    guard.sh("rm -f /usr/bin/cargo /usr/local/bin/cargo");
    let before = guard.sh(EVERYTHING);
    let refused = |line: &str, status: i32, why: &str| {
        // What the services themselves write is not meant.
        let everything = format!("{{ {EVERYTHING}\n}} | grep -vE '/(var/lib|var/log|run)/psentry'");
        let now = guard.sh(&everything);
        let (code, said) = fails(&guard, line);
        assert!(code == Some(status) && said.contains(why), "{line}: {code:?}: {said}");
        assert_eq!(guard.sh(&everything), now, "{line}");
    };
    // sudo hides cargo. What was built before is taken, if it was of this tree as it is now.
    let install = "/opt/psentry/units/install";
    refused(install, 69, "build it without sudo by 'units/install --build'");
    // Cargo's own list of sources is looked at in `units::demo`.
    guard.sh("mkdir -p /opt/psentry/target/release; cp /opt/psentry/bin/* /opt/psentry/target/release/; cd /opt/psentry/target/release
              for name in *; do echo \"$PWD/$name: $(find /opt/psentry/tools -name '*.rs' -printf '%p ')\" > $name.d; done
              touch -d '1 minute' /opt/psentry/tools/judge/lib.rs");
    refused(install, 69, "/opt/psentry/tools/judge/lib.rs is newer than /opt/psentry/target/release/psentry");
    guard.sh("touch -d '1 minute ago' /opt/psentry/tools/judge/lib.rs; touch -d '1 minute' /opt/psentry/Cargo.lock");
    refused(install, 69, "/opt/psentry/Cargo.lock is newer than /opt/psentry/target/release/psentry");
    guard.sh("touch -d '1 minute ago' /opt/psentry/Cargo.lock
              sed -i 's|/opt/psentry/tools|/opt/other/tools|g' /opt/psentry/target/release/psentry-block.d");
    refused(install, 69, "/opt/psentry/target/release/psentry-block was built from another tree");
    guard.sh("sed -i 's|/opt/other/tools|/opt/psentry/tools|g' /opt/psentry/target/release/psentry-block.d");
    // A kernel that lacks something.
    guard.sh("printf '%s\\n' '#!/bin/bash' 'text=$(cat)' '[[ $text != *log\\ group* ]]' > /usr/local/bin/nft; chmod +x /usr/local/bin/nft");
    refused(install, 69, "lacks: NFLOG");
    guard.sh("rm /usr/local/bin/nft");
    assert_eq!(guard.sh(EVERYTHING), before);

    let said = guard.sh(install);
    for word in [
        "psentry mode block",
        "psentry status",
        "psentry log -f",
        "psentry unblock ADDR",
        "psentry allow add ADDR",
        "/opt/psentry/units/uninstall",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }

    // A newer psentry that does not take the settings is not installed, and the older one runs on.
    let pids =
        || guard.sh("systemctl show -P MainPID psentry-listen psentry-trap psentry-judge psentry-block");
    let running = pids();
    guard.sh("echo '# newer' >> /opt/psentry/units/psentry-judge.service; cp -r /etc/psentry /root/settings");
    for (change, why) in [
        ("echo 'nonsense = 1' >> /etc/psentry/policy.toml", "/etc/psentry/policy.toml, line"),
        ("echo host.example >> /etc/psentry/ignore", "host.example"),
        ("sed -i 's/^JUDGE=.*/JUDGE=--nonsense/' /etc/psentry/psentry.conf", "--nonsense"),
        ("sed -i 's/^BLOCK=.*/BLOCK=--backend exec/' /etc/psentry/psentry.conf", "--exec"),
        ("chmod 600 /etc/psentry/policy.toml", "may not read /etc/psentry/policy.toml"),
        ("rm /etc/psentry/ignore; mkdir /etc/psentry/ignore", "/etc/psentry/ignore"),
    ] {
        guard.sh(change);
        refused(INSTALL, 78, why);
        refused(INSTALL, 78, "nothing was changed");
        assert_eq!(pids(), running, "{change}");
        guard.sh("rm -r /etc/psentry; cp -r /root/settings /etc/psentry");
    }
    guard.sh(INSTALL);
    assert!(guard.ok("grep -q '^# newer' /usr/local/lib/systemd/system/psentry-judge.service"));
    let now = pids();
    assert!(
        running.lines().all(|pid| pid.is_empty() || !now.lines().any(|other| other == pid)),
        "{running}{now}"
    );

    // A stage that does not run is named, though it is installed.
    guard.sh("printf '%s\\n' '[Service]' ExecStart= ExecStart=/bin/false Restart=no > /run/drop-in
              mkdir -p /etc/systemd/system/psentry-trap.service.d; mv /run/drop-in /etc/systemd/system/psentry-trap.service.d/x.conf");
    let (code, said) = fails(&guard, INSTALL);
    assert!(code == Some(69) && said.contains("this does not run: psentry-trap"), "{code:?}: {said}");
}

#[test]
fn installed_and_uninstalled_twice_it_takes_away_what_it_made() {
    if !Booted::possible() {
        return;
    }
    let guard = Booted::boot();
    // Folders that were there before, and files of others, some of them beside psentry's own.
    guard.sh("mkdir -p /usr/local/share/fish/vendor_completions.d /usr/local/lib/sysusers.d
              install -D -m 755 /bin/true /usr/local/bin/psentry-mine
              install -D /dev/null /usr/local/share/man/man8/psentry-mine.8
              install -D /dev/null /usr/local/lib/systemd/system/psentry-mine.service
              printf '%s\\n' '[Service]' 'ExecStart=/bin/sleep infinity' > /etc/systemd/system/psentry-theirs.service
              mkdir /etc/systemd/system/psentry-theirs.service.d; systemctl daemon-reload; systemctl start psentry-theirs");
    let (before, rules) = (guard.sh(EVERYTHING), guard.sh("nft list ruleset"));
    let list = "cat /usr/local/lib/psentry/installed";
    guard.sh("echo '.Dd' > /opt/psentry/man/psentry-former.8");
    guard.sh(INSTALL);
    assert!(guard.ok("ls /usr/local/share/man/man8/psentry-former.8"));
    let first = guard.sh(list);
    // Again; what the newer one does not have is gone.
    guard.sh(&format!("rm /opt/psentry/man/psentry-former.8; {INSTALL}"));
    assert!(!guard.ok("ls /usr/local/share/man/man8/psentry-former.8"));
    let mut second: Vec<String> = guard.sh(list).lines().map(str::to_owned).collect();
    second.push("/usr/local/share/man/man8/psentry-former.8".to_owned());
    let sorted = |mut lines: Vec<String>| {
        lines.sort();
        lines
    };
    assert_eq!(sorted(first.lines().map(str::to_owned).collect()), sorted(second));

    // With settings of the administrator's; and a trap that was killed has left its rules.
    guard.sh("echo '192.0.2.1' >> /etc/psentry/ignore
              systemctl mask --now psentry-selftest.timer; systemctl enable psentry-tcp@2222.socket psentry-mirage.socket
              mkdir -p /etc/systemd/system/psentry-block.service.d /etc/systemd/system/psentry-tcp@23.socket.d
              printf '%s\\n' '[Service]' Nice=-14 > /etc/systemd/system/psentry-block.service.d/override.conf
              printf '%s\\n' '[Socket]' Backlog=65 > /etc/systemd/system/psentry-tcp@23.socket.d/override.conf
              systemctl daemon-reload; systemctl restart psentry.target");
    wait_until("it has a log", || guard.ok("test -s /var/log/psentry/records.jsonl"));
    let kept = "find /etc/psentry /var/log/psentry /etc/systemd/system/psentry* | sort; cat /etc/psentry/ignore; getent group psentry";
    let settings = |text: String| -> String {
        text.lines().filter(|line| !line.contains(".wants")).map(|line| format!("{line}\n")).collect()
    };
    let mine = settings(guard.sh(kept));
    for time in ["once", "twice"] {
        let said = guard.sh(&format!("{UNINSTALL} --keep"));
        assert!(said.contains("the group psentry stay"), "{time}: {said}");
        assert_eq!(settings(guard.sh(kept)), mine, "{time}");
        assert_eq!(guard.sh("find /etc/psentry /var/log/psentry -nouser -o -nogroup"), "", "{time}");
        assert!(
            !guard.ok("ls /usr/local/bin/psentry-block || ls /usr/local/lib/psentry || ls /var/lib/psentry"),
            "{time}"
        );
        assert_eq!(guard.sh("nft list ruleset"), rules, "{time}");
    }
    guard.sh(INSTALL);
    assert!(guard.ok("grep -qx 192.0.2.1 /etc/psentry/ignore && systemctl is-active psentry-block"));
    assert_eq!(guard.sh("systemctl show -P Nice psentry-block"), "-14\n");
    guard.sh("systemctl kill --signal=KILL psentry-trap; touch /etc/psentry/mine");
    let said = guard.sh(UNINSTALL);
    assert!(said.contains("/etc/psentry has files that are not psentry's, and stays."), "{said}");
    guard.sh(&format!("rm /etc/psentry/mine; {UNINSTALL}; {UNINSTALL}; {UNINSTALL} --keep"));
    assert_eq!(guard.sh("nft list ruleset"), rules);
    let after = guard.sh(EVERYTHING);
    let (left, missing): (Vec<_>, Vec<_>) = (
        after.lines().filter(|line| !before.lines().any(|other| other == *line)).collect(),
        before.lines().filter(|line| !after.lines().any(|other| other == *line)).collect(),
    );
    assert!(left.is_empty() && missing.is_empty(), "left behind: {left:?}; taken away: {missing:?}");
    assert!(guard.ok("systemctl is-active psentry-theirs"), "somebody else's service runs on");
    assert_eq!(
        guard.sh("systemctl list-units --all --no-legend --plain 'psentry*' | grep -v theirs || true"),
        ""
    );
}
