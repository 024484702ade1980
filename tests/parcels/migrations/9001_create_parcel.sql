-- Parcels by id, which is how they are listed.
CREATE TABLE parcel (
    id uuid PRIMARY KEY,
    client text NOT NULL,
    locker text NOT NULL,
    weight_kg numeric NOT NULL CHECK (weight_kg > 0 AND weight_kg < 'Infinity'),
    is_taken boolean NOT NULL
);
