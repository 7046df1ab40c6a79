#!/bin/sh
# Downloads maps and schedules, and builds the networks of cities where the other commands look for them. Run it by hand, and again when the schedule changes:
# what has not changed at its source is not downloaded twice, and streets that have not changed keep their ids.
#   deploy/networks.sh helsinki espoo vantaa tampere turku oulu
#   DOWNLOADS   folder for the files (default: ./downloads; the map of Finland is large)
#   TILANNEKUVA the command (default: tilannekuva)
#   DIGITRANSIT_SUBSCRIPTION_KEY   for schedules of api.digitransit.fi (Oulu's), a free key of https://portal-api.digitransit.fi
# Needs curl. With osmium-tool (Debian: osmium-tool) the map is cut to the city first, which saves time and memory.
# Map: OpenStreetMap contributors, ODbL 1.0, extracts of Geofabrik. Schedules: each publisher's, as the city files say.
set -eu
[ $# -gt 0 ] || { sed -n '2,11s/^# \{0,1\}//p' "$0" >&2; exit 2; }
downloads=${DOWNLOADS:-downloads} tilannekuva=${TILANNEKUVA:-tilannekuva}
mkdir -p "$downloads"

get() { # ADDRESS FILE: only when it is newer there than here
	set -- "$1" "$2" --fail --location --silent --show-error --retry 3 --remote-time
	case $1 in https://api.digitransit.fi/*)
		[ -n "${DIGITRANSIT_SUBSCRIPTION_KEY:-}" ] || { echo "$1: set DIGITRANSIT_SUBSCRIPTION_KEY" >&2; return 1; }
		printf 'header = "digitransit-subscription-key: %s"\n' "$DIGITRANSIT_SUBSCRIPTION_KEY" >"$downloads/.curlrc"
		chmod 600 "$downloads/.curlrc" ;;
	*) : >"$downloads/.curlrc" ;;
	esac
	address=$1 file=$2
	shift 2
	[ ! -f "$file" ] || set -- "$@" --time-cond "$file"
	code=0
	curl --config "$downloads/.curlrc" "$@" --output "$file.part" "$address" || code=$?
	rm -f "$downloads/.curlrc"
	[ $code -eq 0 ] || { rm -f "$file.part"; return $code; }
	if [ -s "$file.part" ]; then mv "$file.part" "$file"; else rm -f "$file.part"; fi
}

failed=
for city in "$@"; do
	set --
	missing=
	for kind in osm gtfs; do
		address=$($tilannekuva network sources "$city" | sed -n "s/^$kind	//p")
		[ -n "$address" ] || continue
		case $kind in gtfs) own=$city- ;; *) own= ;; esac
		file=$downloads/$own${address##*/}
		if get "$address" "$file" || [ -s "$file" ]; then
			if [ $kind = osm ] && command -v osmium >/dev/null; then
				$tilannekuva network area "$city" --to "$downloads/$city.geojson"
				osmium extract --overwrite --strategy complete_ways --polygon "$downloads/$city.geojson" --output "$downloads/$city.osm.pbf" "$file"
				file=$downloads/$city.osm.pbf
			fi
			set -- "$@" --$kind "$file"
		else
			missing="$missing $kind"
		fi
	done
	case "$missing" in *osm*) echo "$city: no map, left out" >&2; failed="$failed $city"; continue ;; esac
	[ -z "$missing" ] || echo "$city: without$missing, so without the shapes of its lines" >&2
	$tilannekuva network build "$city" "$@" || failed="$failed $city"
done
[ -z "$failed" ] || { echo "not built:$failed" >&2; exit 1; }
