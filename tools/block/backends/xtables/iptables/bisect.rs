//! The commands of many operations in one run of iptables-restore, and in halves if it objects.

use super::super::tables::is_objection;
use crate::error::Error;

/// How many times a batch that fails is halved. Two bad operations among a thousand are found with less.
const PATIENCE: u32 = 24;

/// Runs the commands of each operation, all together. If the program objects, they may be too many at once, or one of them
/// bad: then each half on its own, until each operation has its own result, or the program has failed too often. A lock that
/// another holds is no reason to run it again and again.
pub(super) fn change(
    commands: &[Vec<String>],
    run: &mut impl FnMut(&[String]) -> Result<(), Error>,
) -> Vec<Result<(), Error>> {
    let mut patience = PATIENCE;
    halve(commands, run, &mut patience)
}

fn halve(
    commands: &[Vec<String>],
    run: &mut impl FnMut(&[String]) -> Result<(), Error>,
    patience: &mut u32,
) -> Vec<Result<(), Error>> {
    match run(&commands.concat()) {
        Err(error) if is_objection(&error) && commands.len() > 1 && *patience > 0 => {
            *patience -= 1;
            let (first, second) = commands.split_at(commands.len() / 2);
            let mut results = halve(first, run, patience);
            results.extend(halve(second, run, patience));
            results
        }
        result => vec![result; commands.len()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(code: i32, stderr: &str) -> Error {
        let (text, stderr) = (|| "x".to_owned(), stderr.to_owned());
        psentry_linux::Error::Program { program: text(), status: text(), code: Some(code), stderr }.into()
    }

    /// How often the program is run, and how many operations succeed, when those that are `bad` fail their batch.
    fn run(count: usize, code: i32, stderr: &str, bad: impl Fn(usize) -> bool) -> (u32, usize) {
        let commands: Vec<_> = (0..count).map(|n| vec![n.to_string()]).collect();
        let mut runs = 0;
        let results = change(&commands, &mut |commands| {
            runs += 1;
            if commands.iter().any(|command| bad(command.parse().unwrap())) {
                Err(failure(code, stderr))
            } else {
                Ok(())
            }
        });
        assert_eq!(results.len(), count);
        (runs, results.iter().filter(|result| result.is_ok()).count())
    }

    #[test]
    fn one_bad_operation_is_found_and_a_held_lock_is_left_alone() {
        assert_eq!(run(512, 2, "Bad argument", |n| n == 511), (19, 511));
        assert_eq!(run(512, 4, "RULE_DELETE failed: No such file or directory", |n| n == 511), (19, 511));
        let held = "Another app is currently holding the xtables lock";
        assert_eq!(run(512, 4, held, |n| n == 511), (1, 0));
        let (runs, _) = run(2000, 1, "", |_| true);
        assert!(runs <= 2 * PATIENCE + 1, "{runs}");
    }
}
