//! How psentry-block starts and ends: with what it remembers, and whatever a kill left open.

use super::*;

impl Run<'_> {
    pub(super) fn flags(&self) -> Vec<String> {
        let state = self.state.path().to_str().unwrap();
        let backends = self.sides.iter().flat_map(|side| ["--backend", side.backend]);
        backends.chain(["--state", state, "--hosts-deny", "/run/hosts.deny"]).map(str::to_owned).collect()
    }

    /// It runs; and what is remembered has been put back.
    pub(super) fn running(&mut self) -> Result<(), String> {
        if self.daemon.is_some() {
            return Ok(());
        }
        while self.sides.iter().any(Side::may_stand_on) {
            thread::sleep(Duration::from_millis(100));
        }
        let mut command = self.sandbox.command(bin("psentry-block"));
        let mut program = Program::start_piped(command.args(self.flags()).stdin(Stdio::piped()));
        let (stdin, stdout) = (program.stdin(), program.stdout());
        let (tell, told) = channel();
        thread::spawn(move || {
            BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| tell.send(line))
        });
        self.daemon = Some(Daemon { program, stdin, told, repairs: 0, disturbed: false });
        self.fence()?;
        let now = Timestamp::now();
        for side in &mut self.sides {
            while let Some((scope, _)) = side.known.next_end(now, Duration::from_micros(1)) {
                side.known.end(scope);
            }
        }
        let listed = self.listed()?;
        self.sides.iter_mut().zip(&listed).try_for_each(|(side, listed)| side.find(listed))
    }

    pub(super) fn end(&mut self, signal: Signal) -> Result<Vec<Outcome>, String> {
        let Some(Daemon { mut program, stdin, told, .. }) = self.daemon.take() else { return Ok(Vec::new()) };
        program.signal(signal);
        drop(stdin);
        let told: Vec<Outcome> = told.iter().map(|line| outcome(&line)).collect::<Result<_, _>>()?;
        let (status, _, errors) = program.end();
        self.sides.iter_mut().for_each(|side| side.released.clear());
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
}

impl Side {
    /// Whether something that has just ended may still stand: ipset counts whole seconds. What starts then takes it for what
    /// lasts, and what it is told next is joined to it.
    fn may_stand_on(&self) -> bool {
        let now = Timestamp::now();
        let just = |until: &Timestamp| *until <= now && now.since(*until) < 2 * SLACK;
        let ended = self.known.ended_lately().next().is_some();
        self.backend == "ipset" && (ended || self.known.blocks.values().flatten().any(just))
    }

    /// Whether a kill left it open that a scope stands until then.
    pub(super) fn may_stand(&self, scope: Prefix, until: Until) -> bool {
        self.open.get(&scope).into_iter().flatten().flatten().any(|may| alike(*may, until))
    }

    /// What stands after a start decides what a kill left open, as far as it may stand.
    fn find(&mut self, listed: &Listed) -> Result<(), String> {
        let now = Timestamp::now();
        let mut changed = std::mem::take(&mut self.changed);
        for (scope, mut may) in std::mem::take(&mut self.open) {
            // What was chosen meanwhile, and has ended, does not stand any more.
            if may.iter().flatten().any(|until| is_over(*until, now.plus(SLACK))) {
                may.extend(changed.remove(&scope).unwrap_or_default());
            }
            // What ended a moment ago looks like what was just blocked anew.
            let anew = |until: Until| may.iter().any(|may| may.is_some_and(|may| alike(may, until)));
            let (is, unproven) = listed.get(&scope).copied().unzip();
            let is = is.filter(|until| anew(*until) || !self.known.has_ended(scope, *until));
            let fits = |may: &Option<Until>| match (may, is) {
                (Some(may), Some(is)) => alike(*may, is),
                (Some(may), None) => is_over(*may, now.plus(SOON)),
                (None, is) => is.is_none(),
            };
            if !may.iter().any(fits) {
                let backend = self.backend;
                return Err(format!(
                    "{scope} stands on {backend} as {is:?}, and may stand only as one of {may:?}"
                ));
            }
            self.known.remove(scope);
            self.known.blocks.extend(is.map(|until| (scope, until)));
            self.known.unproven.extend(unproven.filter(|unproven| *unproven).map(|_| scope));
        }
        let soon = |until: &Until| is_over(*until, now.plus(2 * SLACK));
        let ending = self.known.blocks.iter().filter(|(_, until)| soon(until));
        self.ending = ending.map(|(scope, _)| *scope).collect();
        Ok(())
    }
}
