//! The policy, the lists of the ignored and the table of ports, read again when they change or when SIGHUP asks for it.

use std::path::PathBuf;

use psentry_stage::{FileStamp, LastGood, file_stamp, wrong_setting};

use crate::{JudgeError, Policy, PolicyFlags};

/// The files that a policy came from, as they were when they were last read.
pub(crate) struct WatchedFiles {
    files: Vec<(PathBuf, FileStamp)>,
    /// That of the ports, which need not be there.
    ports: PathBuf,
    last_good: LastGood,
    /// What is wrong now, so that a copy counts.
    wrong: Vec<String>,
}

impl WatchedFiles {
    /// Reads the policy that the flags describe, and watches its files; copies of them are in `last_good`.
    ///
    /// # Errors
    /// It cannot be used, and there is no copy of what is wrong.
    pub(crate) fn start(flags: &PolicyFlags, last_good: LastGood) -> Result<(Self, Policy), JudgeError> {
        let mut watched =
            WatchedFiles { files: Vec::new(), ports: flags.ports.clone(), last_good, wrong: Vec::new() };
        let policy = watched.read(flags)?;
        Ok((watched, policy))
    }

    /// Whether the policy comes from any file that a flag names.
    pub(crate) fn any_named(&self) -> bool {
        self.files.iter().any(|(path, _)| *path != self.ports)
    }

    /// Whether any of them has changed since the last call.
    pub(crate) fn changed(&mut self) -> bool {
        let mut changed = false;
        for (path, before) in &mut self.files {
            let now = file_stamp(path);
            changed |= now != *before;
            *before = now;
        }
        changed
    }

    fn watch(&mut self, path: PathBuf) {
        if !self.files.iter().any(|(known, _)| *known == path) {
            let stamp = file_stamp(&path);
            self.files.push((path, stamp));
        }
    }

    /// Reads the policy again, and watches the files that it names now.
    ///
    /// # Errors
    /// The new one cannot be used; the old one is to stay.
    pub(crate) fn read(&mut self, flags: &PolicyFlags) -> Result<Policy, JudgeError> {
        // Watched from before they are read: also those that only a refused policy names, for it is one of them that
        // may have to be corrected; and a file that changes while it is read is read once more.
        let named = Policy::files_of(flags);
        for path in &named {
            self.watch(path.clone());
        }
        let (policy, wrong) = Policy::read(flags, &self.last_good)?;
        self.wrong = wrong.iter().map(wrong_setting).chain(self.last_good.unwritten()).collect();
        for path in &policy.files {
            self.watch(path.clone());
        }
        self.files.retain(|(path, _)| policy.files.contains(path) || named.contains(path));
        Ok(policy)
    }

    /// What is wrong now, so that a copy counts, each as a sentence with file and line.
    pub(crate) fn wrong(&self) -> &[String] {
        &self.wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::MachineFacts;
    use std::fs;

    #[test]
    fn another_file_of_the_same_time_and_length_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1);
        for (name, text) in [("policy", "[test]\ntrigger = 5\n"), ("next", "[test]\ntrigger = 6\n")] {
            fs::write(path(name), text).unwrap();
            fs::File::options().write(true).open(path(name)).unwrap().set_modified(time).unwrap();
        }
        let flags = PolicyFlags { policy: Some(path("policy")), ..PolicyFlags::default() };
        let (mut watched, _) = WatchedFiles::start(&flags, LastGood::default()).unwrap();
        assert!(!watched.changed());
        fs::rename(path("next"), path("policy")).unwrap();
        assert!(watched.changed() && !watched.changed());
    }

    #[test]
    fn a_list_that_only_a_refused_policy_names_is_watched_until_it_can_be_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("policy"), "").unwrap();
        let flags = PolicyFlags { policy: Some(path("policy")), ..PolicyFlags::default() };
        let (mut watched, _) = WatchedFiles::start(&flags, LastGood::default()).unwrap();
        // First the list is missing, then it names a host, then it is right; the policy itself stays as it is.
        fs::write(path("policy"), format!("[ignore]\nfiles = [{:?}]\n", path("list"))).unwrap();
        assert!(watched.changed());
        assert_eq!(watched.read(&flags).unwrap().files.len(), 2, "those of the policy before");
        assert!(watched.wrong()[0].contains("list: No such file"), "{:?}", watched.wrong());
        assert!(!watched.changed(), "it is not refused again every second");
        fs::write(path("list"), "example.org\n").unwrap();
        assert!(watched.changed());
        watched.read(&flags).unwrap();
        assert!(watched.wrong()[0].contains("list, line 1: "), "{:?}", watched.wrong());
        fs::write(path("list"), "192.0.2.7\n").unwrap();
        assert!(watched.changed());
        assert!(watched.read(&flags).unwrap().ignore.holds("192.0.2.7".parse().unwrap()));
        assert!(!watched.changed());
        // One that no policy names any more is left alone.
        fs::write(path("policy"), "").unwrap();
        assert!(watched.changed());
        watched.read(&flags).unwrap();
        fs::write(path("list"), "192.0.2.0/24\n").unwrap();
        assert!(!watched.changed());
    }

    #[test]
    fn the_table_of_ports_is_followed_and_a_wrong_one_is_named_and_leaves_the_policy() {
        let folder = tempfile::tempdir().unwrap();
        let ports = folder.path().join("ports");
        let flags = PolicyFlags { ports: ports.clone(), ..PolicyFlags::default() };
        let (mut watched, policy) = WatchedFiles::start(&flags, LastGood::default()).unwrap();
        let identity =
            |policy: &Policy, port| policy.families.identity(Some(port), psentry_records::Proto::Tcp);
        assert_eq!(identity(&policy, 445), identity(&policy, 139), "what is compiled in");
        assert!(!watched.changed() && !watched.any_named());
        fs::write(&ports, "family mine tcp/8006 tcp/3128\ntranslator 2001:db8:64::/96\n").unwrap();
        assert!(watched.changed());
        let policy = watched.read(&flags).unwrap();
        assert_eq!(identity(&policy, 8006), identity(&policy, 3128));
        assert_ne!(identity(&policy, 445), identity(&policy, 139));
        let scope = |addr: &str| policy.scope(addr.parse().unwrap(), &MachineFacts::default()).len();
        assert_eq!(
            (scope("2001:db8:64::192.0.2.7"), scope("64:ff9b::192.0.2.7"), scope("64:ff9b:1::1")),
            (128, 64, 128)
        );
        fs::write(&ports, "family mine\n").unwrap();
        assert!(watched.changed());
        let policy = watched.read(&flags).unwrap();
        assert_eq!(identity(&policy, 8006), identity(&policy, 3128), "what it said before");
        let wrong = &watched.wrong()[0];
        assert!(
            wrong.contains("ports, line 1: the ports are missing: 'family smb tcp/139 tcp/445'"),
            "{wrong}"
        );
        assert!(!watched.changed());
        fs::remove_file(&ports).unwrap();
        assert!(watched.changed() && watched.read(&flags).is_ok() && watched.wrong().is_empty());
    }

    #[test]
    fn a_start_beside_wrong_files_goes_on_with_the_last_good_copies() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let state = path("state");
        fs::create_dir(&state).unwrap();
        let flags = PolicyFlags {
            policy: Some(path("policy")),
            ignore: vec![path("ignore")],
            ports: path("ports"),
            ..PolicyFlags::default()
        };
        let start = || WatchedFiles::start(&flags, LastGood::of_state(Some(&state)));
        fs::write(path("policy"), "[test]\ntriger = 5\n").unwrap();
        fs::write(path("ignore"), "192.0.2.7\n").unwrap();
        assert!(start().is_err(), "without a copy");
        fs::write(path("policy"), "[block]\nobserve = true\n").unwrap();
        let (watched, _) = start().unwrap();
        assert!(watched.wrong().is_empty());

        fs::write(path("policy"), "[test]\ntriger = 5\n").unwrap();
        fs::write(path("ignore"), "example.org\n192.0.2.8\n").unwrap();
        assert!(WatchedFiles::start(&flags, LastGood::default()).is_err(), "as --check has it");
        let (mut watched, policy) = start().unwrap();
        assert!(policy.block.observe);
        for (addr, held) in [("192.0.2.7", true), ("192.0.2.8", true), ("192.0.2.9", false)] {
            assert_eq!(policy.ignore.holds(addr.parse().unwrap()), held, "{addr}");
        }
        let wrong = watched.wrong().join("\n");
        assert!(wrong.contains("policy, line 2") && wrong.contains("ignore, line 1"), "{wrong}");
        // Mended, it counts at once.
        fs::write(path("policy"), "").unwrap();
        fs::remove_file(path("ignore")).unwrap();
        assert!(watched.changed());
        let policy = watched.read(&flags).unwrap();
        assert!(!policy.block.observe && watched.wrong().len() == 1);
        assert!(policy.ignore.holds("192.0.2.7".parse().unwrap()));
        // The ports are not there, which is no mistake.
        fs::write(path("ignore"), "192.0.2.9\n").unwrap();
        assert!(watched.changed());
        let policy = watched.read(&flags).unwrap();
        assert!(watched.wrong().is_empty() && !policy.ignore.holds("192.0.2.7".parse().unwrap()));
    }
}
