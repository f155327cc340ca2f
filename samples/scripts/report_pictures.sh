#!/bin/sh
# Looks at a run's page with chromium (apt-get install chromium): writes report.png beside it.
# samples/scripts/report_pictures.sh output/v0-…
set -e
run=$(cd "$1" && pwd)
chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --window-size=1200,3000 \
    --screenshot="$run/report.png" "file://$run/report.html" 2>/dev/null
ls -l "$run/report.png" "$run"/images/*.png
