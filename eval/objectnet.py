"""ObjectNet's 113 classes that ImageNet has too, by the folders that ObjectNet's images lie in (Barbu et al. 2019).

`CLASSES` and `NAMES` are facts of the data set, from the mappings that it ships (folder_to_objectnet_label.json and
objectnet_to_imagenet_1k.json), ImageNet's classes as WordNet ids. Its other 200 folders are of no class and not judged.

There are two ways to ask (`eval.class_names`). As CLIP_benchmark does: which of the 113, by ObjectNet's own names. Or
as wise-ft asks a classifier of ImageNet's 1,000 (Wortsman et al. 2022, arXiv 2109.01903): by the names of their classes
in ImageNet, a class scoring what the best of these scores; an answer that is none of theirs cannot be given.
"""

_FOLDERS = """
alarm_clock=02708093+03196217 backpack=02769748 banana=07753592 band_aid=02786058 basket=04204238 beer_bottle=02823428
bench=03891251 bicycle=03792782+02835271 binder_closed=02840245 bottle_cap=02877765 bread_loaf=07684084 broom=02906734
bucket=02909870 butchers_knife=03041632 can_opener=02951585 candle=02948072 cellphone=02992529
chair=02791124+03376595+04099969 clothes_hamper=03482405 coffee_french_press=03297495 combination_lock=03075370
computer_mouse=03793489 desk_lamp=04380533 doormat=03223299 dress=03450230 dress_shoe_men=03680355 drill=03995372
drinking_cup=07930864 drying_rack_for_dishes=03961711 envelope=03291819 fan=03271574 frying_pan=03400231
full_sized_towel=02808304 hair_dryer=03483316 hammer=03481172 hand_towel_or_rag=03207743 helmet=03379051+03127747
iron_for_clothes=03584829 jeans=03594734 keyboard=03085013 ladle=03633091 lampshade=03637318 laptop_open=03642806
lemon=07749582 letter_opener=03658185 lighter=03666591 lipstick=03676483 match=03729826 measuring_cup=03733805
microwave=03761084 mixing_salad_bowl=03775546 monitor=03782006 mug=03063599 nail_fastener=03804744 necklace=03814906
orange=07747607 padlock=03874599 paintbrush=03876231 paper_towel=03887697 pen=02783161+04033901+03388183
pill_bottle=03937543 pillow=03938244 pitcher=03950228 plastic_bag=03958227 plate=07579787 plunger=03970156
pop_can=03983396 portable_heater=04265275 printer=04004767 remote_control=04074963 ruler=04118776
running_shoe=04120489 safety_pin=04127249 salt_shaker=04131690 sandal=04133789 screw=04153751 shovel=04208210
skirt=03534580+03770439+03866082 sleeping_bag=04235860 soap_dispenser=04254120 sock=04254777 soup_bowl=04263257
spatula=04270147 speaker=03691459 still_camera=03976467+04069434 strainer=04332243 stuffed_animal=04399382
suit_jacket=04350905 sunglasses=04356056 sweater=04370456 swimming_trunks=04371430 t-shirt=03595614 teapot=04398044
tennis_racket=04039381 tie=02883205+04591157 toaster=04442312 toilet_paper_roll=15075141 trash_bin=02747177
tray=04476259 tv=04404412 umbrella=04507155 vacuum_cleaner=04517823 vase=04522168 wallet=04548362 watch=03197337
water_bottle=04557648 weight_exercise=03255030 weight_scale=04141975 wheel=02974003+03874293 whistle=04579432
wine_bottle=04591713 winter_glove=03775071 wok=04596742
"""

CLASSES: dict[str, tuple[str, ...]] = {
    folder: tuple(f"n{number}" for number in numbers.split("+"))
    for folder, numbers in (entry.split("=") for entry in _FOLDERS.split())
}
"""By folder, in the folders' order: the WordNet ids of the ImageNet classes whose objects lie in it."""

_OTHER_NAMES = {
    "binder_closed": "binder (closed)",
    "butchers_knife": "butcher's knife",
    "coffee_french_press": "coffee/french press",
    "dress_shoe_men": "dress shoe (men)",
    "drying_rack_for_dishes": "drying rack for plates",
    "full_sized_towel": "bath towel",
    "hand_towel_or_rag": "dishrag or hand towel",
    "iron_for_clothes": "iron (for clothes)",
    "laptop_open": "laptop (open)",
    "mixing_salad_bowl": "mixing / salad bowl",
    "nail_fastener": "nail (fastener)",
    "weight_exercise": "weight (exercise)",
}

NAMES = tuple(_OTHER_NAMES.get(folder, folder.replace("_", " ")) for folder in CLASSES)
"""ObjectNet's names for its folders, in lower case, as CLIP_benchmark asks for them."""
