"""The label names of sets whose files hold numbers alone.

Sources: ADE20K scene parsing (Zhou et al. 2017), the first of its synonyms; COCO-Stuff (Caesar et
al. 2018), whose ids have gaps where COCO gave up a category.
"""

_ADE20K = """
wall, building, sky, floor, tree, ceiling, road, bed, windowpane, grass, cabinet, sidewalk, person,
earth, door, table, mountain, plant, curtain, chair, car, water, painting, sofa, shelf, house, sea,
mirror, rug, field, armchair, seat, fence, desk, rock, wardrobe, lamp, bathtub, railing, cushion,
base, box, column, signboard, chest of drawers, counter, sand, sink, skyscraper, fireplace,
refrigerator, grandstand, path, stairs, runway, case, pool table, pillow, screen door, stairway,
river, bridge, bookcase, blind, coffee table, toilet, flower, book, hill, bench, countertop, stove,
palm, kitchen island, computer, swivel chair, boat, bar, arcade machine, hovel, bus, towel, light,
truck, tower, chandelier, awning, streetlight, booth, television, airplane, dirt track, apparel,
pole, land, bannister, escalator, ottoman, bottle, buffet, poster, stage, van, ship, fountain,
conveyer belt, canopy, washer, plaything, swimming pool, stool, barrel, basket, waterfall, tent,
bag, minibike, cradle, oven, ball, food, step, tank, trade name, microwave, pot, animal, bicycle,
lake, dishwasher, screen, blanket, sculpture, hood, sconce, vase, traffic light, tray, ashcan, fan,
pier, crt screen, plate, monitor, bulletin board, shower, radiator, glass, clock, flag
"""

_COCO_STUFF = """
person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant,
unused, stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra,
giraffe, unused, backpack, umbrella, unused, unused, handbag, tie, suitcase, frisbee, skis,
snowboard, sports ball, kite, baseball bat, baseball glove, skateboard, surfboard, tennis racket,
bottle, unused, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange,
broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, unused,
dining table, unused, unused, toilet, unused, tv, laptop, mouse, remote, keyboard, cell phone,
microwave, oven, toaster, sink, refrigerator, unused, book, clock, vase, scissors, teddy bear,
hair drier, toothbrush, unused, banner, blanket, branch, bridge, building-other, bush, cabinet,
cage, cardboard, carpet, ceiling-other, ceiling-tile, cloth, clothes, clouds, counter, cupboard,
curtain, desk-stuff, dirt, door-stuff, fence, floor-marble, floor-other, floor-stone, floor-tile,
floor-wood, flower, fog, food-other, fruit, furniture-other, grass, gravel, ground-other, hill,
house, leaves, light, mat, metal, mirror-stuff, moss, mountain, mud, napkin, net, paper, pavement,
pillow, plant-other, plastic, platform, playingfield, railing, railroad, river, road, rock, roof,
rug, salad, sand, sea, shelf, sky-other, skyscraper, snow, solid-other, stairs, stone, straw,
structural-other, table, tent, textile-other, towel, tree, vegetable, wall-brick, wall-concrete,
wall-other, wall-panel, wall-stone, wall-tile, wall-wood, water-other, waterdrops, window-blind,
window-other, wood
"""


def _listed(text: str) -> list[str]:
    return [name.strip() for name in text.replace("\n", " ").split(",")]


ADE20K = {0: "unlabelled", **dict(enumerate(_listed(_ADE20K), start=1))}  # 151
COCO_STUFF = {**dict(enumerate(_listed(_COCO_STUFF))), 255: "unlabelled"}  # 0..181 and 255
