"""How the devices of a fleet are clustered, and how its average is estimated."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hdapbench.spec.base import Strict

ClusteringMethod = Literal["kmeans", "minibatch-kmeans", "gmm", "birch", "dbscan", "hdbscan", "agglomerative"]
EstimatorName = Literal["auto", "medoid", "calibrated", "stratified", "greg", "random"]


class ClusteringSpec(Strict):
    """How devices that behave alike are found, and how the fleet's average is estimated from some of them."""

    method: ClusteringMethod = Field(
        default="kmeans",
        description="kmeans, minibatch-kmeans, gmm, birch, agglomerative, or dbscan and hdbscan, "
        "which find their own number of clusters.",
    )
    n_clusters: Annotated[int, Field(ge=1)] | Literal["auto", "silhouette"] = Field(
        default="auto",
        description="Number of clusters; auto: the fewest that promise a narrow interval; silhouette: the best "
        "separated. dbscan and hdbscan find their own.",
    )
    representatives: int = Field(default=1, ge=1, le=8, description="Devices measured per cluster.")
    estimator: EstimatorName = Field(
        default="auto",
        description="How the average follows from the measured devices: medoid, calibrated, stratified, greg, random, "
        "or auto, the best of the study.",
    )
