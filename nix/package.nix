# psentry: the programs, their manual and shell completions, and what the services of nix/module.nix run.
#
# It has the form of pkgs/by-name/ps/psentry/package.nix of nixpkgs, where these lines differ: `src` is
# `fetchFromGitHub { owner = ...; repo = "psentry"; tag = "v${finalAttrs.version}"; hash = ...; }`, `cargoHash` is in place of
# `cargoLock`, and meta also has the `homepage` and the `changelog` of that repository. What is said here of the programs and
# the version a test compares with Cargo.toml.
{
  lib,
  stdenv,
  bash,
  installShellFiles,
  nix-update-script,
  nixosTests,
  rustPlatform,
  versionCheckHook,
}:
rustPlatform.buildRustPackage (finalAttrs: {
  pname = "psentry";
  version = "0.1.0";

  # What the build reads, and no more, so that a change elsewhere builds nothing anew.
  src = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.unions [
      ../Cargo.toml
      ../Cargo.lock
      ../LICENSE
      ../man
      # Named in Cargo.toml, so that they have to be there, and read by a unit test; the rest of tests/ is no part of a build.
      ../tests/bench
      ../tests/cases/list
      ../tests/cases/reconcile
      ../tests/cases/status
      ../tests/tests.rs
      ../tools
      ../units
    ];
  };
  cargoLock.lockFile = ../Cargo.lock;

  nativeBuildInputs = [ installShellFiles ];
  # Of units/selftest and units/logins, which patchShebangs gives the shell of the machine that it is for.
  buildInputs = [ bash ];

  # The unit tests, which need no other program (so no nativeCheckInputs) and no network but loopback. Those in tests/ take root
  # and make network namespaces, which a build may not; passthru.tests has the machines that do.
  cargoTestFlags = [
    "--workspace"
    "--lib"
  ];
  checkFlags = map (test: "--skip=${test}") [
    # Take CAP_NET_ADMIN.
    "netlink_monitor::tests::a_loss_is_reported_until_the_queue_is_read"
    "netlink_monitor::tests::without_a_change_there_is_no_notification"
    # Opens /dev/null as root would.
    "log_file::tests::what_is_no_file_of_ones_own_is_refused"
  ];

  postInstall = ''
    installManPage man/*.[1-8]
    # In the hourly service of nix/module.nix.
    install -D -m 755 units/selftest $out/lib/psentry/selftest
    install -D -m 755 units/logins $out/lib/psentry/logins
    install -D -m 644 units/etc/ports $out/lib/psentry/ports
    # For systemd without NixOS: to be linked or copied to /etc/systemd/system.
    install -D -m 644 -t $out/share/psentry/units units/*.service units/*.socket units/*.target units/*.timer
    substituteInPlace $out/share/psentry/units/*.service --replace-quiet /usr/local "$out"
    # One for each backend that takes more rights: those of the backends in use, to /etc/systemd/system/psentry-block.service.d.
    install -D -m 644 -t $out/share/psentry/rights units/rights/*.conf
    # With every key at its default, for whoever writes one by hand.
    install -D -m 644 -t $out/share/psentry units/etc/policy.toml
  ''
  # A program says its completions itself, where it can be run.
  + lib.optionalString (stdenv.buildPlatform.canExecute stdenv.hostPlatform) ''
    for name in ${lib.concatStringsSep " " finalAttrs.passthru.programs}; do
      installShellCompletion --cmd $name \
        --bash <($out/bin/$name --completions bash) \
        --fish <($out/bin/$name --completions fish) \
        --zsh <($out/bin/$name --completions zsh)
    done
  '';

  doInstallCheck = true;
  nativeInstallCheckInputs = [ versionCheckHook ];

  passthru = {
    programs = [
      "psentry"
      "psentry-block"
      "psentry-judge"
      "psentry-listen"
      "psentry-show"
      "psentry-trap"
    ];
    tests = { inherit (nixosTests) psentry; };
    updateScript = nix-update-script { };
  };

  meta = {
    description = "Notices hosts that probe ports nobody has a reason to touch, and shuts them out";
    longDescription = ''
      Decoy ports and a trap on every closed port notice scanners; a judge decides, by a policy that is a file, whom to
      shut out and for how long; a blocker does it by nftables, iptables, ipset, routes or a command of yours. Each stage is
      a small program in a sandbox of its own, and every step is a line of JSON in a log.
    '';
    license = lib.licenses.mit;
    # In nixpkgs: whoever submits it, of lib.maintainers.
    maintainers = [ { name = "the psentry authors"; } ];
    mainProgram = "psentry";
    platforms = lib.platforms.linux;
  };
})
