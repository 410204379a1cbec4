# Every option that once had another name still works, with a warning.
{
  services.psentry = {
    enable = true;
    openFirewall = true;
    observe = false;
    policy.test.trigger = 1;
    policy.evidence.decoy = 90;
    extraFlags = {
      listen = [ "--host=edge" ];
      judge = [ "--host=edge" ];
      trap = [ "--served=1m" ];
      block = [ "--host=edge" ];
    };
  };
}
