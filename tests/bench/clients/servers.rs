//! The services: nginx, sshd and PostgreSQL, on all addresses of the guard.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::lab::{Lab, Program, wait_until};

/// Keys, a site and a database.
pub(crate) struct Servers(TempDir);

/// The page asks for nine files more; it says how long it took until all of it was there.
const PAGE: &str = "<p id=p></p>
<script>addEventListener('load', () => setTimeout(() => {
    const [page] = performance.getEntriesByType('navigation');
    p.textContent = 'seconds=' + page.loadEventStart / 1000; }, 0))</script>\n";

const NGINX: &str = "user root; daemon off; error_log stderr; pid DIR/nginx.pid; events { }
http {
    access_log off; types { text/html html; image/svg+xml svg; }
    client_body_temp_path DIR/nginx; proxy_temp_path DIR/nginx; fastcgi_temp_path DIR/nginx; uwsgi_temp_path DIR/nginx; scgi_temp_path DIR/nginx;
    server {
        listen [::]:8080 ipv6only=off fastopen=16; listen [::]:8443 ssl http2 ipv6only=off;
        ssl_certificate DIR/tls.pem; ssl_certificate_key DIR/tls.key; root DIR/site;
    }
}";

const POSTGRES: &str = "setpriv --reuid postgres --regid postgres --clear-groups --";

impl Servers {
    /// Makes what they need.
    pub(crate) fn prepare() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        // PostgreSQL is another user.
        fs::set_permissions(at, fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir_all(at.join("site")).unwrap();
        let images: String = (1..10).map(|n| format!("<img src={n}.svg>\n")).collect();
        fs::write(at.join("site/index.html"), "welcome\n").unwrap();
        fs::write(at.join("site/page.html"), format!("{PAGE}{images}")).unwrap();
        for n in 1..10 {
            fs::write(at.join(format!("site/{n}.svg")), "<svg xmlns='http://www.w3.org/2000/svg'/>").unwrap();
        }
        fs::write(at.join("nginx.conf"), NGINX.replace("DIR", at.to_str().unwrap())).unwrap();
        let script = format!(
            "cd {at}; mkdir -p /run/sshd
             openssl req -x509 -newkey rsa:2048 -nodes -keyout tls.key -out tls.pem -days 2 -subj /CN=guard
             ssh-keygen -q -t ed25519 -N '' -f key; ssh-keygen -q -t ed25519 -N '' -f host
             mkdir nginx database; chown postgres database
             {POSTGRES} /usr/lib/postgresql/*/bin/initdb -D database -A trust
             echo 'host all all all trust' >> database/pg_hba.conf",
            at = at.display()
        );
        run(&script);
        Servers(folder)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.0.path()
    }

    /// Starts them as the users that they are; the guard's own root is none of these.
    pub(crate) fn start(&self, lab: &Lab) -> Vec<Program> {
        let at = self.folder().display();
        for host in [&lab.guard, &lab.scanner] {
            host.sh("sysctl -q net.ipv4.tcp_fastopen=3");
        }
        let lines = [
            format!("nginx -c {at}/nginx.conf"),
            format!(
                "/usr/sbin/sshd -D -e -f /dev/null -p 2222 -h {at}/host -o UsePAM=no -o PermitRootLogin=yes \
                 -o StrictModes=no -o AuthorizedKeysFile={at}/key.pub -o PidFile=none"
            ),
            format!("{POSTGRES} /usr/lib/postgresql/*/bin/postgres -D {at}/database -h '*' -k {at}/database"),
        ];
        let start = |line: &String| {
            let mut nsenter = Command::new("nsenter");
            let pid = lab.guard.pid().to_string();
            nsenter.args(["--target", &pid, "--net", "--", "sh", "-c", &format!("exec {line}")]);
            Program::start(&mut nsenter)
        };
        let running = lines.iter().map(start).collect();
        wait_until("all of them listen", || {
            let listening = lab.guard.sh("ss -Hltn");
            [":2222 ", ":5432 ", ":8080 ", ":8443 "].iter().all(|port| listening.contains(port))
        });
        running
    }
}

fn run(script: &str) {
    let mut sh = Command::new("sh");
    let output = sh.args(["-ec", script]).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}
