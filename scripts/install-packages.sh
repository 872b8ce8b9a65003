#!/bin/sh
# The Debian packages that each part of the work needs, in one place, and their installation.
#   scripts/install-packages.sh PART…         installs what is missing (as root), or prints the one command to type
#   scripts/install-packages.sh --list PART…  prints the packages
# Parts: build demo test bench lint fuzz dist deb. The Makefile calls this before every target; nothing missing costs no time and no network.
set -eu

# PACKAGE, or PACKAGE=PATH where another package may provide the same file just as well (nginx-light, nginx-full, …).
build='g++ cmake ninja-build pkgconf=/usr/bin/pkg-config libmnl-dev libssl-dev libfmt-dev libspdlog-dev libcli11-dev nlohmann-json3-dev libre2-dev libtomlplusplus-dev libmaxminddb-dev libmicrohttpd-dev libarchive-dev scdoc
  nftables iproute2 clang=/usr/bin/clang bpftool=/usr/sbin/bpftool libbpf-dev'
demo="$build curl nginx=/usr/sbin/nginx openssl"
test="$demo bind9-dnsutils chromium conntrack dante-server dbus-daemon debhelper dnsmasq-base dnsperf ethtool fish git haproxy libgtest-dev mmdb-bin libnginx-mod-stream mtr-tiny netcat-openbsd microsocks ngtcp2-client ngtcp2-server prometheus python3 python3-pytest python3-yaml iperf3
  iptables procps socat squid=/usr/sbin/squid tcpdump=/usr/bin/tcpdump tinyproxy-bin=/usr/bin/tinyproxy tmux traceroute trafficserver util-linux xz-utils"
# Debian starts firewalld as soon as it is installed, and a test must not put a firewall around anybody's machine.
[ -d /run/systemd/system ] || test="$test firewalld"
bench="$demo haproxy iperf3 libbenchmark-dev libnginx-mod-stream python3 squid=/usr/sbin/squid util-linux wrk"
lint="$build libgtest-dev clang-19 clang-tidy-19 clang-format-19 shellcheck python3 pyflakes3 git"
dist="git xz-utils"
deb="$build debhelper dpkg-dev lintian"
fuzz="$build clang-19 libclang-rt-19-dev"

list=no
if [ "${1-}" = --list ]; then
  list=yes
  shift
fi

wanted=
for part in "$@"; do
  case $part in
    build) wanted="$wanted $build" ;;
    demo) wanted="$wanted $demo" ;;
    test) wanted="$wanted $test" ;;
    bench) wanted="$wanted $bench" ;;
    lint) wanted="$wanted $lint" ;;
    fuzz) wanted="$wanted $fuzz" ;;
    dist) wanted="$wanted $dist" ;;
    deb) wanted="$wanted $deb" ;;
    *) echo "install-packages: unknown part '$part' (build, demo, test, bench, lint, fuzz, dist, deb)" >&2; exit 2 ;;
  esac
done

if [ $list = yes ]; then
  for entry in $wanted; do echo "${entry%%=*}"; done | sort -u
  exit 0
fi

if ! command -v dpkg-query >/dev/null; then
  echo "install-packages: this is no Debian; provide the equivalents of: $("$0" --list "$@" | tr '\n' ' ')" >&2
  exit 0
fi

installed=$(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' 2>/dev/null | sed -n 's/^ii *//p')
missing=
for entry in $wanted; do
  package=${entry%%=*}
  path=${entry#*=}
  if [ "$path" != "$entry" ] && [ -e "$path" ]; then continue; fi
  case "
$installed
" in
    *"
$package
"*) continue ;;
  esac
  case " $missing " in *" $package "*) ;; *) missing="$missing $package" ;; esac
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
  echo "Debian packages are missing:$missing" >&2
  echo "Install them with:  sudo $0 $*" >&2
  exit 1
fi

# nginx and others start and enable themselves as services when they are installed. We only want the programs: a policy that
# forbids the start lasts as long as the installation (invoke-rc.d(8)), and what got enabled is disabled again.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
  trap 'rm -f $policy' EXIT
  trap 'exit 1' HUP INT TERM
  printf '#!/bin/sh\n# Only while limpid installs packages.\nexit 101\n' > $policy
  chmod 755 $policy
fi

echo "Installing Debian packages:$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get -q -o DPkg::Lock::Timeout=120 -o Acquire::Retries=3 update
# shellcheck disable=SC2086  # a list of words on purpose
apt-get -q -y -o DPkg::Lock::Timeout=120 -o Acquire::Retries=3 -o Dpkg::Use-Pty=0 install --no-install-recommends $missing

if command -v systemctl >/dev/null; then
  dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' | sed -n 's/^ii *//p' | while read -r package; do
    case "
$installed
" in
      *"
$package
"*) continue ;;
    esac
    for unit in $(dpkg-query -L "$package" | sed -n 's|^.*/lib/systemd/system/\([^/@]*\.service\)$|\1|p'); do
      systemctl --quiet disable "$unit" || echo "install-packages: could not disable $unit" >&2
    done
  done
fi
