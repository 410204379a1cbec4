# Ports that scanners love and that nobody mistypes: the same as in units/install.
{
  tcp = [
    21
    23
    79
    111
    113
    135
    139
    445
    512
    513
    514
    1433
    1521
    2323
    3389
    5038
    5555
    5900
    6379
    7547
    9200
    11211
    27017
  ];
  udp = [
    69
    111
    161
    623
    1900
    5060
    11211
  ];
}
