{
  services.psentry = {
    enable = true;
    openFirewall = true;
    ignore = [
      "192.0.2.1"
      "office.example.org"
    ];
  };
}
