#!/bin/sh
# Debian packages that the demo and the tests use, where they can be had: sh tools/system_packages.sh dataset-fashion-mnist chromium
# Nothing fails without them: the data set is then downloaded, and the tests that use a browser or a database are skipped with the reason.
set -u

present() {
    case "$1" in
    dataset-fashion-mnist) [ -d /usr/share/datasets/fashion-mnist ] || [ -n "${FASHION_MNIST:-}" ] ;;
    postgresql) command -v initdb >/dev/null 2>&1 || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 ;;
    *) command -v "$1" >/dev/null 2>&1 ;;
    esac
}

missing=""
for package in "$@"; do
    present "$package" || missing="$missing $package"
done
[ -z "$missing" ] && exit 0

if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
    echo "installing$missing"
    # shellcheck disable=SC2086 # a list of names
    if apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null; then
        exit 0
    fi
fi
echo "note: not installed:$missing. On Debian: sudo apt-get install$missing" >&2
exit 0
