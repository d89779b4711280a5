#!/bin/sh
# Builds the Debian package of what dist/ holds: build/deb/tcpcrypt_<version>_<architecture>.deb. Needs dpkg-deb, and
# no network: the packages that tcpcrypt depends on are taken from node_modules.
#
#   scripts/deb.sh [directory of the result]
set -eu
cd "$(dirname "$0")/.."

[ -f dist/cli/main.js ] || { echo "tcpcrypt: nothing is built: npm run build" >&2; exit 1; }
command -v dpkg-deb >/dev/null || { echo "tcpcrypt: dpkg-deb is missing: apt-get install dpkg" >&2; exit 1; }

version=$(node -p 'require("./package.json").version')
architecture=$(dpkg --print-architecture)
out=${1:-build/deb}
mkdir -p "$out"
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT INT TERM

library=$root/usr/lib/tcpcrypt
document=$root/usr/share/doc/tcpcrypt
install -d "$root/DEBIAN" "$library" "$document" "$root/usr/bin" "$root/usr/include" "$root/lib/systemd/system" \
  "$root/usr/share/man/man7"

cp -r dist package.json "$library"
# What only developers look at.
find "$library/dist" \( -name '*.map' -o -name '*.tsbuildinfo' \) -delete
# Every package that is needed to run, as the lock file has it and as far as it is for this platform.
node -e '
  const { packages } = require("./package-lock.json");
  const found = new Set();
  const visit = (from) => {
    const { dependencies, optionalDependencies } = packages[from];
    for (const name of Object.keys({ ...dependencies, ...optionalDependencies })) {
      const nested = `${from}/node_modules/${name}`;
      const path = packages[nested] ? nested : `node_modules/${name}`;
      if (!packages[path] || found.has(path) || !require("fs").existsSync(path)) continue;
      found.add(path);
      visit(path);
    }
  };
  visit("");
  for (const path of [...found].sort()) console.log(path);
' | while read -r path; do
  case $path in */node_modules/*) continue ;; esac # comes along with its parent
  install -d "$library/$(dirname "$path")"
  cp -r "$path" "$library/$path"
done
find "$library/node_modules" \( -name '*.map' -o -name '*.ts' -o -name '*.cts' -o -name '*.mts' -o -name '*.md' \) -delete
rm -rf "$library"/node_modules/koffi/doc "$library"/node_modules/koffi/vendor

ln -s ../lib/tcpcrypt/dist/cli/main.js "$root/usr/bin/tcpcrypt"
ln -s ../lib/tcpcrypt/dist/cli/tcpcryptd.js "$root/usr/bin/tcpcryptd"
cp include/*.h "$root/usr/include"
for page in man/*.7; do gzip -9n <"$page" >"$root/usr/share/man/man7/$(basename "$page").gz"; done
cp -r examples "$document"
cp packaging/systemd/*.service "$root/lib/systemd/system"
cp README.md SECURITY.md CHANGELOG.md docs/*.md "$document"
cp LICENSE "$document/copyright"

find "$root" -type d -exec chmod 755 {} +
find "$root" -type f -exec chmod 644 {} +
chmod 755 "$library"/dist/cli/main.js "$library"/dist/cli/tcpcryptd.js
for script in postinst prerm postrm; do install -m 755 packaging/debian/$script "$root/DEBIAN"; done
sed "s/@VERSION@/$version/; s/@ARCHITECTURE@/$architecture/; s/@SIZE@/$(du -sk "$root/usr" | cut -f1)/" \
  packaging/debian/control.in >"$root/DEBIAN/control"

package="$out/tcpcrypt_${version}_$architecture.deb"
dpkg-deb --root-owner-group --build "$root" "$package" >/dev/null
echo "$package"
