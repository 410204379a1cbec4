//! hosts.deny: a file, a link and a directory that are replaced, a watch that cannot be had.

use super::*;

/// A blocker that keeps `file` and blocks one host in it.
fn blocker(lab: &Lab, file: &str) -> (Program, ChildStdin) {
    let (mut program, mut stdin) = start(lab, &["--backend", "hosts-deny", "--hosts-deny", file]);
    block(&mut program, &mut stdin, &[SCANNER]);
    (program, stdin)
}

fn holds(guard: &Host, file: &str) -> bool {
    guard.ok(&["grep", "-q", "ALL: 203.0.113.7", file])
}

#[test]
fn a_file_a_link_or_a_directory_that_is_replaced_is_seen() {
    let lab = Lab::new();
    let file = "/run/etc/hosts.deny";
    lab.guard
        .sh("mkdir /run/etc /run/one /run/two; echo '# mine' | tee /run/one/hosts.deny > /run/two/hosts.deny
        ln -s /run/one/hosts.deny /run/etc/hosts.deny");
    let (mut program, _stdin) = blocker(&lab, file);
    for vandal in [
        "echo '# mine' > /run/one/hosts.deny",
        "rm /run/one/hosts.deny; echo '# mine' > /run/one/hosts.deny",
        "ln -s /run/two/hosts.deny /run/etc/new; mv -T /run/etc/new /run/etc/hosts.deny",
        // What it leads to now is watched.
        "echo '# mine' > /run/two/hosts.deny",
        "mv /run/etc /run/old; mkdir /run/etc; echo '# mine' > /run/etc/hosts.deny",
        "rm -r /run/etc; sleep 0.2; mkdir /run/etc; echo '# mine' > /run/etc/hosts.deny",
        "echo '# mine' > /run/etc/hosts.deny",
    ] {
        let took = damaged(&program, &lab.guard, vandal, || holds(&lab.guard, file));
        println!("{took:>7.0?} {vandal}");
        assert!(took < 3 * SECOND, "{took:?}: {vandal}");
        assert!(lab.guard.ok(&["grep", "-q", "# mine", file]), "{vandal}");
    }
    let (_, output, errors) = program.terminate();
    let released = output.iter().filter(|line| line.contains("released")).count();
    assert_eq!(released, 1, "only at the end: {output:?} {errors:?}");
}

/// Where the kernel cannot report changes they are looked for.
#[test]
fn without_a_watch_it_blocks_says_so_and_looks() {
    let lab = Lab::new();
    lab.guard.sh("echo 0 > /proc/sys/user/max_inotify_instances");
    let (mut program, _stdin) = blocker(&lab, "/run/hosts.deny");
    assert!(holds(&lab.guard, "/run/hosts.deny"));
    let said = program.complaint("once a second");
    assert!(said.contains("hosts-deny: cannot watch hosts.deny: "), "{said}");
    damaged(&program, &lab.guard, "rm /run/hosts.deny", || holds(&lab.guard, "/run/hosts.deny"));
}
