"""The newest records of a product as one Parquet file, typed from the record classes; GeoParquet 1.1 where the records have a geometry."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq
import shapely

from models.arrow import table


def file(product: str, values: Sequence[bytes], licence: str, attribution: Sequence[str]) -> bytes:
    """The file; licence and attribution are in its metadata, so that they stay with it."""
    made = table(product, list(values))
    about = {"licence": licence, "attribution": "; ".join(attribution), "product": product}
    if "geometry" in made.column_names:
        shapes = shapely.from_geojson(made["geometry"].to_numpy(zero_copy_only=False), on_invalid="ignore")
        kinds = sorted({g.geom_type for g in shapes if g is not None})
        made = made.set_column(made.column_names.index("geometry"), "geometry", pa.array(shapely.to_wkb(shapes), pa.binary()))
        column = {"encoding": "WKB", "geometry_types": kinds}
        about["geo"] = json.dumps({"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}})
    out = io.BytesIO()
    pq.write_table(made.replace_schema_metadata(about), out, compression="zstd")
    return out.getvalue()
