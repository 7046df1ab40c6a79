#!/bin/sh
# An authority, certificates and passwords for deploy/compose, in the folder secrets/ beside this file. What is there already is kept.
#   ./secrets.sh [CITY] [PUBLIC_HOST]
# For a test bed or one machine. A cluster that others trust has certificates of its authority: put them in the place of these, with CN=broker and CN=admin.
set -eu
city=${1:-helsinki} host=${2:-localhost}
cd "$(dirname "$0")"
umask 077
mkdir -p secrets
cd secrets

[ -f ca.pem ] || openssl req -x509 -newkey rsa:3072 -sha256 -days 3650 -nodes -subj "/O=tilannekuva/CN=authority" -keyout ca.key -out ca.pem 2>/dev/null

# key and certificate in one PEM file, the key in PKCS #8, as Kafka and Python read it
issue() { # NAME SUBJECT-ALTERNATIVE-NAMES
	[ -f "$1.pem" ] && return
	openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:3072 -out "$1.key" 2>/dev/null
	openssl req -new -key "$1.key" -subj "/O=tilannekuva/CN=$1" -out "$1.csr"
	printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth\n' "$2" >"$1.ext"
	openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -sha256 -days 397 -extfile "$1.ext" -out "$1.crt" 2>/dev/null
	cat "$1.key" "$1.crt" >"$1.pem"
	rm "$1.key" "$1.csr" "$1.ext" "$1.crt"
}
issue broker "DNS:kafka1,DNS:kafka2,DNS:kafka3,DNS:localhost,DNS:$host,IP:127.0.0.1"
issue admin "DNS:admin"

# passwords.env: what `tilannekuva access --apply` makes users with; one file each: what the processes log in with
password() { # FILE USER
	[ -f "$1" ] || openssl rand -hex 24 >"$1"
	printf 'TILANNEKUVA_PASSWORD_%s=%s\n' "$(printf %s "$2" | tr a-z- A-Z_)" "$(cat "$1")" >>passwords.new
}
: >passwords.new
for role in connect process archive; do password "$role" "$role-$city"; done
password gateway gateway
printf 'TILANNEKUVA_PASSWORD_PUBLIC=public\n' >>passwords.new # known to everybody: rights and quota protect, not this
mv passwords.new passwords.env
[ -f grafana ] || openssl rand -hex 12 >grafana
[ -f feeds.env ] || printf '# keys of feeds, by the names in connectors/cities/%s.toml\n' "$city" >feeds.env
chmod 644 ca.pem
# the containers' users are not yours: the folder keeps strangers out
chmod 644 broker.pem admin.pem connect process archive gateway grafana
echo "secrets for $city in $(pwd)"
