//! Real services, on ports that scanners try first: each takes connections and closes them in its own time. Twenty of
//! them, or eight: then the neighbours of these, such as 443 beside 80, are closed.

use std::env;
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use crate::lab::{GUARD, Lab, Program, wait_until};

/// Where twenty listen: all of them are among nmap's thousand most popular.
pub(crate) const TWENTY: [u16; 20] =
    [22, 25, 53, 80, 110, 111, 143, 443, 465, 587, 631, 993, 995, 2049, 3306, 5432, 8000, 8080, 8081, 9100];

/// Where eight listen, whose siblings by /etc/psentry/ports are closed.
pub(crate) const EIGHT: [u16; 8] = [22, 25, 53, 80, 110, 143, 3306, 8080];

/// The argument that makes this program the services.
pub(crate) const ARGUMENT: &str = "--services";

/// Starts them on the guard.
pub(crate) fn start(lab: &Lab, ports: &[u16]) -> Program {
    let this = env::current_exe().unwrap();
    let program = Program::start(
        lab.guard.command(this.to_str().unwrap()).arg(ARGUMENT).args(ports.iter().map(u16::to_string)),
    );
    wait_until("the services answer", || lab.innocent.reaches(GUARD[0], ports[ports.len() - 1]));
    program
}

/// Is the services, until killed.
pub(crate) fn serve() {
    for port in env::args().skip(2).map(|port| port.parse::<u16>().unwrap()) {
        let listener = TcpListener::bind(("0.0.0.0", port)).unwrap();
        thread::spawn(move || {
            for mut client in listener.incoming().flatten() {
                thread::spawn(move || {
                    let _ = client.set_read_timeout(Some(Duration::from_secs(1)));
                    let _ = client.write_all(b"220 ready\r\n");
                    let _ = client.read(&mut [0; 64]);
                });
            }
        });
    }
    let _ = io::stdin().read(&mut [0]);
    loop {
        thread::park();
    }
}
