//! Where a tool listens: at the place that its flags name, or at its default place, where it is done without a socket that
//! another process has.

use std::path::{Path, PathBuf};

use psentry_stage::runtime_directory;

use crate::{ControlError, Server};

/// Where a tool listens, and its commands ask it, unless a flag says otherwise.
#[must_use]
pub fn default_path(tool: &str) -> PathBuf {
    runtime_directory(tool).join("control")
}

/// Reads who may ask: the mode of a file, as chmod(1) takes it. For clap's `value_parser`.
///
/// # Errors
/// It is none; what to write, as a sentence.
pub fn parse_control_mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
    mode.ok_or_else(|| "write a mode as chmod(1) takes it, such as 0600 or 0660".to_owned())
}

impl Server {
    /// Listens at `given`, or else at the default place of `tool`, as [`listen`](Self::listen) does. What is to be reported of
    /// that is said by `report`. `None`: the default place cannot be had, and this process cannot be asked.
    ///
    /// # Errors
    /// When the place that was given cannot be had.
    pub fn listen_for(
        tool: &str,
        given: Option<&Path>,
        mode: u32,
        report: impl FnOnce(&str),
    ) -> Result<Option<Self>, ControlError> {
        match (given, Server::listen(given.unwrap_or(&default_path(tool)), mode, tool)) {
            (Some(path), Ok(server)) => {
                report(&format!("{}: {tool} may be asked here", path.display()));
                Ok(Some(server))
            }
            // There it always is.
            (None, Ok(server)) => Ok(Some(server)),
            (Some(_), Err(error)) => Err(error),
            (None, Err(error)) => {
                report(&format!("{error}; this one cannot be asked"));
                Ok(None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_place_that_was_given_has_to_be_had() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control");
        let listen = |given: Option<&Path>| {
            let mut said = String::new();
            let server = Server::listen_for("psentry-test", given, 0o700, |text| said = text.to_owned());
            (server.map(|server| server.is_some()).map_err(|error| error.to_string()), said)
        };
        let (is_there, said) = listen(Some(&path));
        assert_eq!(is_there, Ok(true));
        assert!(said.ends_with("control: psentry-test may be asked here"), "{said}");
        std::fs::write(&path, "mine").unwrap();
        assert!(listen(Some(&path)).0.is_err_and(|error| error.ends_with("it is not removed")));
    }

    #[test]
    fn a_mode_is_as_chmod_takes_it() {
        assert_eq!([parse_control_mode("0660"), parse_control_mode("600")], [Ok(0o660), Ok(0o600)]);
        for wrong in ["", "8", "1777", "rw", "-1"] {
            assert!(parse_control_mode(wrong).is_err(), "{wrong}");
        }
    }
}
