# As it comes.
{
  services.psentry.enable = true;
}
