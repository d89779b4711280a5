#!/bin/sh
# Installs what this clone lacks to be built and tested, and builds it. Run by "npm run demo" and "npm test";
# does nothing, in well under a second, when nothing is missing.
#
#   scripts/setup.sh [--quiet]     --quiet: say only what is being done, not what is already there
#
# Debian packages are installed by root only. Server packages are used by tests inside network namespaces:
# no service is started on this machine, neither now nor at the next start.
set -eu
cd "$(dirname "$0")/.."
PATH="$PATH:/usr/sbin:/sbin"

quiet=false
case ${1-} in
  '') ;;
  --quiet) quiet=true ;;
  *) echo "usage: scripts/setup.sh [--quiet]" >&2; exit 2 ;;
esac

# The command that led here, for advice.
case ${npm_lifecycle_event-} in
  demo) command="npm run demo" ;;
  test) command="npm test" ;;
  bench) command="npm run bench" ;;
  *) command="npm run setup" ;;
esac

step() { echo "[$1/3] $2"; }
idle() { $quiet || step "$1" "$2"; }
fail() {
  echo "tcpcrypt: $1" >&2
  shift
  for line; do echo "  $line" >&2; done
  exit 1
}

# Runs a command and shows what it said only when it failed: npm's reasons come first, those of apt-get last.
# The addresses of package servers are nobody's business (a log may be public).
quietly() {
  log=$(mktemp)
  status=0
  "$@" >"$log" 2>&1 </dev/null || status=$?
  if [ $status != 0 ]; then
    if [ "$(wc -l <"$log")" -gt 20 ]; then
      head -n 10 "$log"
      echo "..."
      tail -n 10 "$log"
    else
      cat "$log"
    fi | sed -E "s#[a-z+]+://[^ ]+#(address)#g
      s/(resolve|connect to|ENOTFOUND|EAI_AGAIN|ECONNREFUSED) [^ ]+/\1 (address)/g
      s/([[:alnum:]-]+\.){2,}[[:alpha:]]{2,}/(address)/g" >&2
  fi
  rm -f "$log"
  return $status
}

# ---- Node -------------------------------------------------------------------------------------------------------

for tool in node npm; do
  command -v $tool >/dev/null || fail "$tool is not installed" "install Node.js 20.19 or newer, with npm"
done
node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)' ||
  fail "Node.js $(node --version) is too old" "install Node.js 20.19 or newer"

# ---- 1. Debian packages -----------------------------------------------------------------------------------------

# package:proof, where the proof is a program or a file that the package brings
packages="
clang:clang
libbpf-dev:/usr/include/bpf/bpf_helpers.h
libbpf1:libbpf.so.1
linux-libc-dev:/usr/include/linux/bpf.h
libc6-dev:/usr/include/features.h
iptables:iptables
nftables:nft
iproute2:ip
bpftool:bpftool
tcpdump:tcpdump
procps:ps
util-linux:nsenter
util-linux:setpriv
libcap2-bin:setcap
nginx-light:nginx
redis-server:redis-server
redis-tools:redis-cli
openssh-server:sshd
openssh-client:ssh
netcat-openbsd:nc.openbsd
curl:curl
groff-base:groff
python3:python3
"

# What is compared with, and nothing else needs.
[ "${npm_lifecycle_event-}" != bench ] || packages="$packages
stunnel4:stunnel4"

installed() {
  case $1 in
    /*) [ -e "$1" ] ;;
    *.so.*) ldconfig -p 2>/dev/null | grep -q "$1" || ls /usr/lib/"$1" /usr/lib/*/"$1" /usr/lib64/"$1" >/dev/null 2>&1 ;;
    # Elsewhere than on Debian there is only one nc.
    nc.openbsd) command -v nc.openbsd || { ! command -v apt-get && command -v nc; } ;;
    *) command -v "$1" ;;
  esac >/dev/null
}

missing=
for entry in $packages; do
  package=${entry%%:*}
  installed "${entry#*:}" && continue
  case " $missing " in *" $package "*) ;; *) missing="$missing $package" ;; esac
done
missing=${missing# }

# While packages are being installed, /usr/sbin/policy-rc.d forbids to start services (that is Debian's way).
# Ours forbids only as long as this script runs, and hands over to the one that was there, so that a
# machine that lost power in between is none the worse; afterwards the old state is restored exactly.
policy=/usr/sbin/policy-rc.d
policy_before=$policy.before-tcpcrypt

forbid_services() {
  restore_services # what a killed run left
  [ ! -e $policy ] || mv $policy $policy_before
  cat >$policy <<EOF
#!/bin/sh
# Written by the setup script of tcpcrypt, for the time it installs packages.
if kill -0 $$ 2>/dev/null; then exit 101; fi
if [ -x $policy_before ]; then exec $policy_before "\$@"; fi
exit 0
EOF
  chmod 755 $policy
}

restore_services() {
  if [ -e $policy_before ]; then
    mv $policy_before $policy
  elif grep -qs 'setup script of tcpcrypt' $policy; then
    rm $policy
  fi
}

install_packages() {
  export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
  # One at a time: the lock is on the directory, no file remains.
  exec 9</usr/sbin
  flock 9
  trap restore_services EXIT
  trap 'exit 1' INT TERM HUP
  forbid_services
  quietly apt-get update || fail "the list of Debian packages could not be fetched" "is the network up?"
  # shellcheck disable=SC2086
  quietly apt-get install -y --no-install-recommends -o DPkg::Lock::Timeout=300 $missing ||
    fail "apt-get could not install: $missing" "see above; is the network up?"
  for package in $missing; do
    case $package in
      nginx-light) service=nginx ;;
      redis-server) service=redis-server ;;
      openssh-server) service=ssh ;;
      stunnel4) service=stunnel4 ;;
      *) continue ;;
    esac
    update-rc.d $service disable >/dev/null 2>&1 || :
  done
  restore_services
  trap - EXIT INT TERM HUP
  exec 9<&-
}

if [ -z "$missing" ]; then
  idle 1 "Debian packages: all there"
elif ! command -v apt-get >/dev/null; then
  fail "this is not Debian, and these are missing (names of Debian packages):" "$missing"
elif [ "$(id -u)" != 0 ]; then
  fail "Debian packages are missing: $missing" "run: sudo $command"
else
  step 1 "Debian packages: $missing"
  install_packages
fi

# ---- 2. npm packages --------------------------------------------------------------------------------------------

# npm itself writes this file, last.
stamp=node_modules/.package-lock.json
if [ -L node_modules ]; then
  idle 2 "npm packages: node_modules is a link, left alone"
elif [ -e $stamp ] && [ ! package-lock.json -nt $stamp ]; then
  idle 2 "npm packages: all there"
else
  step 2 "npm packages"
  quietly npm ci --no-audit --no-fund || fail "npm could not install the packages" "see above; is the network up?"
  touch $stamp
fi

# ---- 3. build ---------------------------------------------------------------------------------------------------

# Newer than the last build: a source, or a directory from which a file disappeared.
inputs=$(ls -d src test bench bpf include scripts/build-bpf.sh package.json tsconfig*.json $stamp 2>/dev/null || :)
built=build/.stamp
# shellcheck disable=SC2086
if [ -e $built ] && [ -d dist ] && [ -z "$(find -L $inputs -newer $built -print -quit)" ]; then
  idle 3 "build: up to date"
else
  step 3 "build"
  mkdir -p build
  started=build/.stamp-$$ # sources that change during the build are newer
  touch $started
  npm run --silent build || { rm -f $started; fail "the build failed"; }
  mv $started $built
fi

# What root made in somebody's clone belongs to that somebody.
if [ "$(id -u)" = 0 ] && [ "$(stat -c %u .)" != 0 ]; then
  find node_modules dist build -user 0 -exec chown -h "$(stat -c %u:%g .)" {} +
fi
