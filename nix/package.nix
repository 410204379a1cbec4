# psentry: the programs, their manual and shell completions, and what the services of nix/module.nix run.
{
  lib,
  stdenv,
  bash,
  rustPlatform,
  installShellFiles,
}:
let
  root = ../.;
  manifest = lib.importTOML ../Cargo.toml;
  programs = map (bin: bin.name) manifest.bin;
in
rustPlatform.buildRustPackage {
  pname = "psentry";
  inherit (manifest.workspace.package) version;

  # What the build reads, and no more, so that a change elsewhere builds nothing anew.
  src = lib.fileset.toSource {
    inherit root;
    fileset = lib.fileset.unions [
      ../Cargo.toml
      ../Cargo.lock
      ../LICENSE
      ../man
      # Named in Cargo.toml, so that they have to be there; the rest of tests/ is no part of a build.
      ../tests/bench
      ../tests/tests.rs
      ../tools
      ../units
    ];
  };
  cargoLock.lockFile = ../Cargo.lock;

  nativeBuildInputs = [ installShellFiles ];
  # Of units/selftest.
  buildInputs = [ bash ];

  # The unit tests; those in tests/ make network namespaces, which a build may not.
  cargoTestFlags = [
    "--workspace"
    "--lib"
  ];

  postInstall = ''
    installManPage man/*.[1-8]
    # In the hourly service of nix/module.nix.
    install -D -m 755 units/selftest $out/lib/psentry/selftest
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
  + lib.optionalString (stdenv.buildPlatform.canExecute stdenv.hostPlatform) (
    lib.concatMapStrings (name: ''
      installShellCompletion --cmd ${name} \
        --bash <($out/bin/${name} --completions bash) \
        --fish <($out/bin/${name} --completions fish) \
        --zsh <($out/bin/${name} --completions zsh)
    '') programs
  );

  meta = {
    inherit (manifest.package) description;
    license = lib.licenses.mit;
    mainProgram = "psentry-show";
    platforms = lib.platforms.linux;
  };
}
