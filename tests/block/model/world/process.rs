//! How psentry-block starts and ends: with what it remembers, and whatever a kill left open.

use super::*;

/// How much sooner the kernel may end a block.
const EARLY: Duration = Duration::from_millis(100);

/// What the backend exec runs: a file for each block, with its name.
const EXEC: [&str; 4] = [
    "--exec",
    "sh -c 'touch /run/exec/$(echo $0 | tr / _)' {scope}",
    "--exec-undo",
    "sh -c 'rm -f /run/exec/$(echo $0 | tr / _)' {scope}",
];

impl Run<'_> {
    pub(super) fn flags(&self) -> Vec<String> {
        let state = self.state.path().to_str().unwrap();
        let backends = self.sides.iter().flat_map(|side| ["--backend", side.backend]);
        let exec = self.sides.iter().filter(|side| side.backend == "exec").flat_map(|_| EXEC);
        let others = ["--state", state, "--hosts-deny", "/run/hosts.deny"];
        backends.chain(exec).chain(others).map(str::to_owned).collect()
    }

    /// It runs; and what is remembered has been put back.
    pub(super) fn running(&mut self) -> Result<(), String> {
        if self.daemon.is_some() {
            return Ok(());
        }
        let started = Timestamp::now();
        let mut command = self.sandbox.psentry();
        let mut program = Program::start_piped(command.args(self.flags()).stdin(Stdio::piped()));
        let (stdin, stdout) = (program.stdin(), program.stdout());
        let (tell, told) = channel();
        thread::spawn(move || {
            BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| tell.send(line))
        });
        program.complaint(": ready: ");
        self.daemon = Some(Daemon { program, stdin, told, repairs: 0 });
        // No start waits for commands.
        if self.sides.iter().any(|side| side.backend == "exec") {
            self.become_enforced()?;
        }
        let listed = self.listed()?;
        let now = Timestamp::now();
        // Of what a kill left open, too, whichever of it was wanted.
        let open =
            self.open.iter().flat_map(|(scope, may)| may.iter().flatten().map(|block| (*scope, block.until)));
        let ended: Vec<(Prefix, Until)> = open
            .filter(|(_, until)| is_over(*until, now.plus(EARLY)) && !is_over(*until, started.minus(EARLY)))
            .collect();
        let doubtful = self.find(&listed, now)?;
        for side in &mut self.sides {
            side.ending = ended.iter().copied().collect();
            side.damaged.clear();
            side.holds = self.known.on(side.backend).map(|(scope, block)| (scope, block.until)).collect();
        }
        // What ended meanwhile may be told or not.
        while let Some((scope, until)) = self.known.next_end(now, Duration::from_micros(1)) {
            self.known.end(scope);
            for side in &mut self.sides {
                let held = side.holds.remove(&scope);
                side.ending.extend(held.filter(|_| until.plus(EARLY) > started).map(|until| (scope, until)));
            }
        }
        // What no backend has, or perhaps has, is wanted or not: from here on it is not.
        for scope in doubtful {
            self.release(scope)?;
        }
        self.compare(Duration::ZERO)
    }

    pub(super) fn end(&mut self, signal: Signal) -> Result<Vec<Outcome>, String> {
        let Some(Daemon { mut program, stdin, told, .. }) = self.daemon.take() else { return Ok(Vec::new()) };
        program.signal(signal);
        drop(stdin);
        let told: Vec<Outcome> = told.iter().map(|line| outcome(&line)).collect::<Result<_, _>>()?;
        let (status, _, errors) = program.end();
        if signal == Signal::SIGTERM && !status.success() {
            return Err(format!("{status}: {errors:#?}"));
        }
        Ok(told)
    }

    pub(super) fn stop(&mut self, signal: Signal) -> Result<(), String> {
        let told = self.end(signal)?;
        match told.iter().find(|told| told.body.result == OutcomeResult::Failed) {
            Some(failed) => Err(format!("{failed:?}")),
            None => Ok(()),
        }
    }

    /// What is there after a start decides what a kill left open, as far as it may be; what that does not decide.
    fn find(&mut self, listed: &[Listed], now: Timestamp) -> Result<Vec<Prefix>, String> {
        let sides: Vec<(&str, &Listed)> = self.sides.iter().map(|side| side.backend).zip(listed).collect();
        let mut doubtful = Vec::new();
        for (scope, may) in std::mem::take(&mut self.open) {
            let on_all = |may: &&Option<Block>| {
                sides.iter().all(|(backend, listed)| {
                    let wanted = may.filter(|block| block.fits(backend));
                    match (wanted, listed.get(&scope)) {
                        (Some(wanted), Some(is)) => {
                            wanted.unproven == is.unproven && alike(wanted.until, is.until)
                        }
                        // Killed before it was made longer, what is about to end was left as it is, and may have ended.
                        (Some(wanted), None) => wanted.is_over(now.plus(SLACK)),
                        // A backend that counts whole seconds may still have what just ended.
                        (None, Some(is)) => is.is_over(now.plus(SLACK)),
                        (None, None) => true,
                    }
                })
            };
            let fitting: Vec<Option<Block>> = may.iter().filter(on_all).copied().collect();
            if fitting.is_empty() {
                let is: Vec<_> = sides.iter().map(|(name, listed)| (name, listed.get(&scope))).collect();
                return Err(format!("{scope} is {is:?}, and may only be one of {may:?}"));
            }
            let found = sides.iter().find_map(|(_, listed)| listed.get(&scope).copied());
            let alive: BTreeSet<bool> =
                fitting.iter().map(|may| may.is_some_and(|block| !block.is_over(now))).collect();
            self.known.blocks.remove(&scope);
            if alive.len() > 1 || found.is_none() && alive.contains(&true) {
                doubtful.push(scope);
            }
            let known = fitting.last().copied().flatten();
            // The end that is listed is as exact as the journal has it.
            let known = known.map(|block| Block { until: found.map_or(block.until, |is| is.until), ..block });
            self.known.blocks.extend(known.map(|block| (scope, block)));
        }
        Ok(doubtful)
    }
}
