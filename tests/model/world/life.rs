//! How psentry-block starts and ends: with what it remembers, and whatever a kill left open.

use super::*;

impl Run<'_> {
    pub(super) fn flags(&self) -> Vec<String> {
        let state = self.state.path().to_str().unwrap();
        ["--backend", self.backend, "--state", state, "--hosts-deny", "/run/hosts.deny"]
            .map(str::to_owned)
            .into()
    }

    /// It runs; and what is remembered has been put back.
    pub(super) fn running(&mut self) -> Result<(), String> {
        if self.daemon.is_some() {
            return Ok(());
        }
        let mut command = self.ground.0.command(bin("psentry-block"));
        let mut program = Program::start_piped(command.args(self.flags()).stdin(Stdio::piped()));
        let (stdin, stdout) = (program.stdin(), program.stdout());
        let (tell, told) = channel();
        thread::spawn(move || {
            BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| tell.send(line))
        });
        self.daemon = Some(Daemon { program, stdin, told, repairs: 0 });
        // Answered after all that was to be put back.
        let number = self.number();
        let fence =
            "\"event_type\":\"verdict\",\"verdict\":{\"action\":\"unblock\",\"scope\":\"192.0.2.250\"}}\n";
        self.write(&format!("{{\"timestamp\":\"{}\",\"dest_port\":{number},{fence}", Timestamp::now()))?;
        self.answer(number)?;
        let now = Timestamp::now();
        while let Some((scope, _)) = self.known.next_end(now, Duration::from_micros(1)) {
            self.known.end(scope);
        }
        let listed = self.listed()?;
        let now = Timestamp::now();
        for (scope, may) in std::mem::take(&mut self.open) {
            // What ended a moment ago looks like what was just blocked anew.
            let anew = |until: Until| may.iter().any(|may| may.is_some_and(|may| alike(may, until)));
            let is = listed.get(&scope).copied();
            let is = is.filter(|until| anew(*until) || !self.known.has_ended(scope, *until));
            let fits = |may: &Option<Until>| match (may, is) {
                (Some(may), Some(is)) => alike(*may, is),
                (Some(may), None) => is_over(*may, now.plus(SOON)),
                (None, is) => is.is_none(),
            };
            if !may.iter().any(fits) {
                return Err(format!("{scope} stands as {is:?}, and may stand only as one of {may:?}"));
            }
            self.known.blocks.remove(&scope);
            self.known.blocks.extend(is.map(|until| (scope, until)));
        }
        let soon = |until: &Until| is_over(*until, now.plus(2 * SLACK));
        let ending = self.known.blocks.iter().filter(|(_, until)| soon(until));
        self.ending = ending.map(|(scope, _)| *scope).collect();
        Ok(())
    }

    pub(super) fn number(&mut self) -> u16 {
        self.number += 1;
        self.number
    }

    pub(super) fn end(&mut self, signal: Signal) -> Result<Vec<Outcome>, String> {
        let Some(Daemon { mut program, stdin, told, .. }) = self.daemon.take() else { return Ok(Vec::new()) };
        program.signal(signal);
        drop(stdin);
        let told: Vec<Outcome> = told.iter().map(|line| outcome(&line)).collect::<Result<_, _>>()?;
        let (status, _, errors) = program.end();
        self.released.clear();
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
