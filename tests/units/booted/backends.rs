//! Every backend inside the shipped unit. Each has the rights that it takes, over IPv4 and IPv6, or fails alone and says so. Also
//! for the service of the NixOS module: `tests/nix/booted.rs`.

use std::fs;

use crate::lab::{Booted, Host, Program, wait_until};

use super::{GUARD, SCANNER, guard_and_scanner};

/// The guard and the scanner over IPv6; its /64 is not the guard's.
const GUARD6: &str = "2001:db8:1::1";
const SCANNER6: &str = "2001:db8:7::7";
/// Somebody else.
const INNOCENT: [&str; 2] = ["203.0.113.8", "2001:db8:8::8"];
/// A router of the scanner's network, which commands ask to block.
const ROUTER: &str = "203.0.113.9";

/// What verdicts block.
const SCOPES: [&str; 2] = ["203.0.113.7/32", "2001:db8:7::/64"];

/// The service on the guard.
const PORT: u16 = 8080;

/// The flags of a command that needs no network, and of one that asks the router.
pub const ROUTE_COMMAND: [&str; 2] =
    ["/usr/sbin/ip route replace blackhole {scope}", "/usr/sbin/ip route del blackhole {scope}"];
pub const ROUTER_COMMAND: [&str; 2] =
    ["/usr/local/bin/at-the-router add {scope}", "/usr/local/bin/at-the-router delete {scope}"];

/// A guard with psentry and a service that heeds hosts.deny, a scanner, and the router.
pub struct Site {
    pub guard: Booted,
    scanner: Host,
    _router: Program,
}

impl Site {
    /// Boots it.
    pub fn new() -> Self {
        let (guard, scanner) = guard_and_scanner();
        let (here, there) = ("02:00:00:00:07:01", "02:00:00:00:07:02");
        // As if a router stood between them: whom the guard blocks it does not answer when he asks for its link address.
        guard.sh(&format!(
            "ip link set scanner address {here}; ip address add {GUARD6} dev lo nodad; ip -6 route add 2001:db8::/32 dev scanner
             for host in {SCANNER} {SCANNER6} {INNOCENT4} {INNOCENT6} {ROUTER}; do ip neigh replace $host lladdr {there} dev scanner; done",
            INNOCENT4 = INNOCENT[0],
            INNOCENT6 = INNOCENT[1],
        ));
        scanner.sh(&format!(
            "ip link set eth0 address {there}
             ip address add {INNOCENT4}/24 dev eth0; ip address add {ROUTER}/24 dev eth0
             ip address add {SCANNER6}/64 dev eth0 nodad; ip address add {INNOCENT6}/64 dev eth0 nodad
             ip route replace default via 203.0.113.1; ip -6 route add {GUARD6} dev eth0
             for router in 203.0.113.1 {GUARD6}; do ip neigh replace $router lladdr {here} dev eth0; done
             printf '%s\\n' '#!/bin/sh' 'read -r verb scope' 'case $scope in *:*) six=-6 ;; esac' \
                 'ip $six rule $verb from $scope blackhole && echo ok' > /run/router; chmod +x /run/router",
            INNOCENT4 = INNOCENT[0],
            INNOCENT6 = INNOCENT[1],
        ));
        let listen = format!("TCP-LISTEN:7000,bind={ROUTER},reuseaddr,fork");
        let router = Program::start(scanner.command("socat").args([&listen, "EXEC:/run/router"]));
        guard.sh(&format!(
            "printf '%s\\n' '#!/bin/bash' 'exec 3<>/dev/tcp/{ROUTER}/7000' 'echo $1 $2 >&3; read -r said <&3; test \"$said\" = ok' \
                 > /usr/local/bin/at-the-router
             printf '%s\\n' '#!/bin/sh' 'echo hello' > /usr/local/bin/greeter; chmod +x /usr/local/bin/at-the-router /usr/local/bin/greeter
             cd /etc/systemd/system
             printf '%s\\n' '[Socket]' 'ListenStream={GUARD}:{PORT}' 'ListenStream=[{GUARD6}]:{PORT}' Accept=yes > greeter.socket
             printf '%s\\n' '[Service]' 'ExecStart=-@/usr/sbin/tcpd /usr/local/bin/greeter' StandardInput=socket > greeter@.service
             systemctl daemon-reload; systemctl start greeter.socket
             env -u SSH_CONNECTION /opt/psentry/units/install --programs /opt/psentry/bin"
        ));
        let site = Site { guard, scanner, _router: router };
        wait_until("the service greets", || [SCANNER, SCANNER6].iter().all(|host| site.is_greeted(host)));
        site
    }

    /// Whether a connection from that address is taken and answered.
    fn is_greeted(&self, from: &str) -> bool {
        let to = if from.contains(':') {
            format!("TCP6:[{GUARD6}]:{PORT},bind=[{from}],connect-timeout=1")
        } else {
            format!("TCP4:{GUARD}:{PORT},bind={from},connect-timeout=1")
        };
        let said = self.scanner.run(&["timeout", "3", "socat", "-u", &to, "-"]).stdout;
        String::from_utf8_lossy(&said) == "hello\n"
    }

    /// With these flags, psentry-block is started anew.
    fn start(&self, block: &str, exec_network: &str) {
        self.set(block, exec_network);
        self.restart();
    }

    fn set(&self, block: &str, exec_network: &str) {
        let settings =
            format!("MODE=observe\nJUDGE=\nBLOCK={block}\nEXEC_NETWORK={exec_network}\nTRAP=\nLISTEN=\n");
        fs::write(self.guard.path("/etc/psentry/psentry.conf"), settings).unwrap();
    }

    /// The same with the units that there are now.
    pub fn restart(&self) {
        self.guard.sh(
            "systemctl daemon-reload; systemctl reset-failed psentry-block; systemctl restart psentry-block",
        );
    }

    /// A verdict of now, as the judge writes it.
    fn verdict(&self, scope: &str, address: &str) {
        self.guard.sh(&format!(
            "printf '{{\"timestamp\":\"%s\",\"event_type\":\"verdict\",\"src_ip\":\"{address}\",\"verdict\":{{\"action\":\"block\",\
             \"scope\":\"{scope}\",\"duration\":600}}}}\\n' $(date -u +%FT%TZ) > /run/psentry/verdicts"
        ));
    }

    /// Verdicts of both families.
    fn verdicts(&self) {
        self.verdict(SCOPES[0], SCANNER);
        self.verdict(SCOPES[1], SCANNER6);
    }

    /// Waits until the scanner is blocked over both, and nobody else is.
    fn is_blocked(&self, backend: &str) {
        wait_until(&format!("{backend} blocks"), || {
            ![SCANNER, SCANNER6].iter().any(|host| self.is_greeted(host))
        });
        assert!(INNOCENT.iter().all(|host| self.is_greeted(host)), "{backend} blocks somebody else");
    }

    /// Status is not green, and says this on standard error.
    fn is_red(&self, why: &[&str]) {
        let status = self.guard.run("psentry-block status");
        let said = String::from_utf8_lossy(&status.stderr);
        assert!(status.status.code() == Some(1) && why.iter().all(|why| said.contains(why)), "{status:?}");
    }

    /// Waits until all that is wanted is there.
    fn is_green(&self, backend: &str) {
        wait_until(&format!("{backend} is well"), || self.guard.ok("psentry-block status"));
    }

    /// Whether the unit was never started again by itself.
    fn runs_on(&self, backend: &str) {
        assert_eq!(self.guard.sh("systemctl show -P NRestarts psentry-block"), "0\n", "{backend}");
    }

    /// A verdict of each family is enforced, and ended by a command of root's.
    pub fn enforces(&self, backend: &str) {
        self.is_green(backend);
        self.verdicts();
        self.is_blocked(backend);
        self.is_green(backend);
        let standing = "psentry-block status --json | grep -q '\"wanted\":2,\"standing\":2'";
        assert!(self.guard.ok(standing), "{backend}");
        for (scope, host) in SCOPES.iter().zip([SCANNER, SCANNER6]) {
            let said = self.guard.sh(&format!("psentry-block unblock --json {scope}"));
            assert!(said.contains(r#""result":"released""#), "{backend}: {said}");
            wait_until(&format!("{backend} lets {host} in"), || self.is_greeted(host));
        }
        self.is_green(backend);
        self.runs_on(backend);
        self.guard.sh("psentry-block flush");
        println!("{backend}: IPv4 and IPv6 are enforced and released");
    }

    /// iptables as `nft` or `legacy`.
    fn choose_iptables(&self, variant: &str) {
        let choose = |name: &str| format!("update-alternatives --set {name} /usr/sbin/{name}-{variant}");
        self.guard.sh(&format!("{}; {}", choose("iptables"), choose("ip6tables")));
    }
}

/// The flag of the backend exec with commands.
pub fn exec([block, undo]: [&str; 2]) -> String {
    format!("--backend exec --exec '{block}' --exec-undo '{undo}'")
}

#[test]
fn every_backend_has_the_rights_that_it_takes() {
    if !Booted::possible() {
        return;
    }
    let site = Site::new();
    for name in ["nft", "iptables", "ipset", "route", "hosts-deny"] {
        site.start(&format!("--backend {name}"), "no");
        site.enforces(name);
    }
    saved_rules_are_loaded(&site);
    one_that_cannot_work_fails_alone(&site);

    // The legacy variant, beside which no rules of the other one are left.
    if site.guard.ok("iptables-legacy -S && ip6tables-legacy -S") {
        site.choose_iptables("legacy");
        for name in ["iptables", "ipset"] {
            site.start(&format!("--backend {name}"), "no");
            site.enforces(&format!("{name}, legacy"));
        }
        site.choose_iptables("nft");
    } else {
        eprintln!("\n*** NOT TESTED with the legacy iptables, which the kernel of this machine lacks ***");
    }

    site.start(&exec(ROUTE_COMMAND), "no");
    site.enforces("exec");
    // Without a network a command fails, and is named; with one the same blocks are made.
    site.start(&exec(ROUTER_COMMAND), "no");
    site.verdicts();
    let failed = "grep -c '\"backend\":\"exec\",\"result\":\"failed\"' /var/log/psentry/records.jsonl";
    wait_until("both have failed", || site.guard.ok(&format!("test $({failed}) -ge 2")));
    let red = site.guard.run("psentry-block status");
    assert!(
        red.status.code() == Some(1) && String::from_utf8_lossy(&red.stderr).contains("exec 0 of 2"),
        "{red:?}"
    );
    site.start(&exec(ROUTER_COMMAND), "yes");
    site.is_blocked("exec with a network");
    site.is_green("exec with a network");
    site.guard.sh("psentry-block flush");
    site.enforces("exec with a network");

    // Several have the rights of each; in their order.
    site.start("--backend nft --backend ipset --backend hosts-deny --backend route", "no");
    site.verdicts();
    site.is_blocked("all");
    site.is_green("all");
    let rights = site.guard.sh("systemctl show -P CapabilityBoundingSet psentry-block");
    assert_eq!(rights, "cap_chown cap_dac_override cap_net_admin cap_net_raw\n");
    site.guard.sh("psentry-block flush; /opt/psentry/units/uninstall");
    assert!(!site.guard.ok("ls /run/systemd/generator/psentry-block.service.d"));
}

/// Rules that are saved while ipset blocks match its sets, and are loaded at boot before psentry-block is started.
fn saved_rules_are_loaded(site: &Site) {
    let guard = &site.guard;
    site.start("--backend ipset", "no");
    site.verdicts();
    site.is_blocked("ipset");
    guard.sh("mkdir -p /etc/iptables; iptables-save > /etc/iptables/rules.v4; ip6tables-save > /etc/iptables/rules.v6
              grep -e '--match-set psentry4 ' /etc/iptables/rules.v4; grep -e '--match-set psentry6 ' /etc/iptables/rules.v6
              systemctl stop psentry.target; until ! systemctl is-active psentry-block; do sleep 0.1; done; psentry-block flush
              printf '%s\\n' '[Unit]' DefaultDependencies=no Before=network-pre.target '[Service]' Type=oneshot RemainAfterExit=yes \
                  'ExecStart=iptables-restore /etc/iptables/rules.v4' 'ExecStart=ip6tables-restore /etc/iptables/rules.v6' \
                  > /etc/systemd/system/netfilter-persistent.service
              printf '%s\\n' '[Unit]' 'Wants=netfilter-persistent.service psentry-ipset-sets.service' After=netfilter-persistent.service \
                  > /etc/systemd/system/boot.target
              systemctl daemon-reload");
    assert_eq!(guard.sh("ipset list -n"), "");
    assert!(!guard.ok("iptables-restore /etc/iptables/rules.v4"), "without the sets nothing of it is loaded");
    assert_eq!(guard.sh("systemctl show -P WantedBy psentry-ipset-sets"), "sysinit.target\n");
    // Both in one go, as at boot.
    guard.sh("systemctl start boot.target; systemctl is-active netfilter-persistent
         iptables -S | grep -e '--match-set psentry4 '; ip6tables -S | grep -e '--match-set psentry6 '");
    guard.sh("systemctl start psentry.target");
    site.is_green("ipset");
    site.enforces("ipset, after saved rules were loaded");
    guard.sh("rm -r /etc/iptables /etc/systemd/system/netfilter-persistent.service /etc/systemd/system/boot.target");
}

/// The others work on. It is reported, named by status, and tried again.
fn one_that_cannot_work_fails_alone(site: &Site) {
    let guard = &site.guard;
    // Without its program, until that is installed.
    guard.sh("mv /usr/sbin/ipset /usr/sbin/ipset-away");
    site.start("--backend ipset --backend nft", "no");
    site.verdicts();
    site.is_blocked("nft");
    site.is_red(&["ipset ? of 2", "the program 'ipset', which is not installed"]);
    guard.sh("mv /usr/sbin/ipset-away /usr/sbin/ipset");
    site.is_green("ipset");
    guard.sh("ipset list psentry4 | grep 203.0.113.7; ipset list psentry6 | grep 2001:db8:7::/64
              journalctl -u psentry-block -o cat | grep 'ipset cannot work, and is tried again'
              journalctl -u psentry-block -o cat | grep 'ipset works again'");
    site.runs_on("ipset");
    guard.sh("psentry-block flush");
    // Without its rights, until systemd has read the settings.
    site.start("--backend nft", "no");
    site.set("--backend hosts-deny --backend nft", "no");
    guard.sh("systemctl restart psentry-block");
    site.verdicts();
    site.is_blocked("nft");
    site.is_red(&[
        "hosts-deny ? of 2",
        "/etc/hosts.deny: cannot write a new one beside it",
        "Rights of the backends",
    ]);
    site.runs_on("hosts-deny");
    site.restart();
    site.is_green("hosts-deny");
    guard.sh("grep 203.0.113.7 /etc/hosts.deny; psentry-block flush");
    assert!(!guard.ok("grep -q psentry /etc/hosts.deny"));
}
