# The former name says one thing and the new one another.
{
  services.psentry = {
    enable = true;
    mode = "observe";
    observe = false;
  };
}
